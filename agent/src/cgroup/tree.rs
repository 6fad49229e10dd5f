//! The cgroups below one. A container nests and names them as it likes: there
//! is no recursion here, and a name is any bytes.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::{Errno, Result, fcntl_dupfd_cloexec};

use super::{DIRECTORY, read_file};

/// Ids of all processes in a cgroup and below, as the agent knows them.
pub(super) fn processes(top: BorrowedFd<'_>) -> BTreeSet<i32> {
    let mut pids = BTreeSet::new();
    let mut rest = Vec::from_iter(fcntl_dupfd_cloexec(top, 0));
    while let Some(cgroup) = rest.pop() {
        let text = read_file(cgroup.as_fd(), "cgroup.procs").unwrap_or_default();
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        let children = children(cgroup.as_fd());
        rest.extend(children.iter().filter_map(|name| open(&cgroup, name).ok()));
    }
    pids
}

/// A cgroup on the way down to those that are to be removed first.
struct Level {
    cgroup: OwnedFd,
    /// Those below it that are still there.
    children: Vec<CString>,
}

impl Level {
    fn new(cgroup: OwnedFd) -> Self {
        let children = children(cgroup.as_fd());
        Self { cgroup, children }
    }
}

/// Removes all cgroups below one; fails with `EBUSY` if there are processes in
/// any of them.
pub(super) fn remove_below(top: BorrowedFd<'_>) -> Result<()> {
    let mut levels = vec![Level::new(fcntl_dupfd_cloexec(top, 0)?)];
    while let Some(Level { cgroup, children }) = levels.last_mut() {
        let Some(name) = children.last() else {
            levels.pop();
            continue;
        };
        match unlinkat(&*cgroup, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => drop(children.pop()),
            Err(Errno::BUSY) => {
                let below = Level::new(open(cgroup, name)?);
                if below.children.is_empty() {
                    return Err(Errno::BUSY);
                }
                levels.push(below);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn open(parent: &OwnedFd, name: &CStr) -> Result<OwnedFd> {
    openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
}

/// Names of the cgroups directly below.
fn children(cgroup: BorrowedFd<'_>) -> Vec<CString> {
    let Ok(entries) = Dir::read_from(cgroup) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type() == FileType::Directory)
        .map(|entry| entry.file_name().to_owned())
        .filter(|name| **name != *c"." && **name != *c"..")
        .collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    use tempfile::TempDir;

    use super::*;

    /// Directories stand in for cgroups.
    #[test]
    fn children_have_any_name() {
        let top = TempDir::new().unwrap();
        fs::create_dir(top.path().join(OsStr::from_bytes(b"\xff"))).unwrap();
        fs::create_dir(top.path().join("child")).unwrap();
        fs::write(top.path().join("cgroup.procs"), "").unwrap();
        let directory = fs::File::open(top.path()).unwrap();
        let mut names = children(directory.as_fd());
        names.sort();
        assert_eq!(names, [c"child".to_owned(), c"\xff".to_owned()]);
        remove_below(directory.as_fd()).unwrap();
        assert!(children(directory.as_fd()).is_empty());
    }
}
