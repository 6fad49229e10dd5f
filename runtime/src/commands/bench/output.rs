//! Where the report goes.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::commands::print;
use crate::error::Error;

/// A place for the report, known to be writable before anything is measured.
#[derive(Debug)]
pub(super) enum Output {
    Standard,
    /// A new file beside the one to be replaced.
    File {
        path: PathBuf,
        new: NamedTempFile,
    },
}

impl Output {
    pub(super) fn open(path: Option<PathBuf>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Ok(Self::Standard);
        };
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let new = tempfile::Builder::new()
            .prefix(".bulkhead-bench")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(directory)
            .map_err(Error::io("write", &path))?;
        Ok(Self::File { path, new })
    }

    /// Writes the report. If there is no room for it, `text` goes to standard
    /// output, so that what was measured is not lost.
    pub(super) fn write(self, report: &str, text: &impl fmt::Display) -> Result<(), Error> {
        match self {
            Self::Standard => print(report).map(drop),
            Self::File { path, new } => replace(&path, new, report).map_err(|error| {
                // The failure to tell is the first one.
                let _ = print(&text.to_string());
                Error::io("write", path)(error)
            }),
        }
    }
}

fn replace(path: &Path, mut new: NamedTempFile, report: &str) -> io::Result<()> {
    new.write_all(report.as_bytes())?;
    new.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn file_is_replaced_as_a_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        fs::write(&path, "old").unwrap();
        let output = Output::open(Some(path.clone())).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        drop(output);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let output = Output::open(Some(path.clone())).unwrap();
        output.write("new", &"text").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn directory_that_is_missing_is_told_before_anything_is_measured() {
        let error = Output::open(Some("/no/such/directory/report".into())).unwrap_err();
        assert!(error.to_string().contains("/no/such/directory/report"));
    }
}
