//! Pid files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes this process's pid to a file, if one is asked for, so that whoever
/// reads it finds all of it or nothing.
pub(super) fn write(path: Option<&Path>) -> io::Result<()> {
    path.map_or(Ok(()), |path| replace(path, std::process::id()))
}

fn replace(path: &Path, pid: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let aside = path.with_file_name(name);
    // What a crash left there, or a link that somebody else put there.
    match fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = File::create_new(&aside)?;
    let replaced = file
        .write_all(pid.to_string().as_bytes())
        .and_then(|()| fs::rename(&aside, path));
    if replaced.is_err() {
        // The first failure is the one to tell.
        let _ = fs::remove_file(&aside);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_file_is_replaced_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        fs::write(&path, "an old and longer content").unwrap();
        replace(&path, 42).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "42");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn link_in_its_way_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let precious = directory.path().join("precious");
        fs::write(&precious, "untouched").unwrap();
        std::os::unix::fs::symlink(&precious, directory.path().join("pid.new")).unwrap();
        replace(&directory.path().join("pid"), 42).unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "untouched");
    }

    #[test]
    fn nothing_is_left_of_a_failure() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        fs::create_dir(&path).unwrap();
        replace(&path, 42).unwrap_err();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
