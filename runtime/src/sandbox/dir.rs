//! A sandbox's directory: its sockets and the logs of its processes.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::SandboxError;

/// Where the VMM listens for connections to the guest, relative to the
/// directory. The guest's connections to port `P` of the host go to this name
/// with `_P` appended.
pub(super) const VSOCK: &str = "vsock.sock";

/// Where the guest's console goes.
pub(super) const CONSOLE: &str = "console.log";

/// A sandbox's directory, held open.
#[derive(Debug)]
pub(crate) struct SandboxDir {
    path: PathBuf,
    handle: File,
}

impl SandboxDir {
    /// Makes the directory anew; whatever a crash left there goes.
    pub(crate) fn create(path: &Path) -> Result<Self, SandboxError> {
        remove(path)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(SandboxError::io("make the directory", path))?;
        Self::open(path)
    }

    /// Opens an existing one.
    pub(crate) fn open(path: &Path) -> Result<Self, SandboxError> {
        let handle = File::open(path).map_err(SandboxError::io("open", path))?;
        Ok(Self {
            path: path.to_owned(),
            handle,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A path to a file in it that is short enough for a socket's address,
    /// which the directory's own may not be (`unix(7)`: 108 bytes).
    fn short_path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.handle.as_raw_fd()))
    }

    /// Listens for the guest's connections to a port of the host.
    pub(crate) fn listen(&self, port: u32) -> io::Result<UnixListener> {
        UnixListener::bind(self.short_path(&format!("{VSOCK}_{port}")))
    }

    /// Stops the guest from connecting to the port any more.
    pub(crate) fn unlisten(&self, port: u32) {
        // What is gone already need not be removed, and the rest goes with
        // the directory.
        let _ = fs::remove_file(self.short_path(&format!("{VSOCK}_{port}")));
    }

    /// Connects to the VMM's side of the guest's ports.
    pub(crate) fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.short_path(VSOCK))
    }

    /// A listener that has one connection waiting already, and that connection.
    pub(super) fn connected_listener(&self) -> io::Result<(UnixListener, UnixStream)> {
        let path = self.short_path("fs.sock");
        let listener = UnixListener::bind(&path)?;
        let stream = UnixStream::connect(&path)?;
        fs::remove_file(&path)?;
        Ok((listener, stream))
    }

    /// Makes an empty file for a process's messages.
    pub(super) fn log_file(&self, name: &str) -> io::Result<File> {
        File::create(self.path.join(name))
    }

    /// The last lines of a file, as text: at most `lines`, and 4 KiB.
    pub(super) fn tail(&self, name: &str, lines: usize) -> String {
        let read = || -> io::Result<Vec<u8>> {
            const MAX: u64 = 4096;
            let mut file = File::open(self.path.join(name))?;
            let len = file.metadata()?.len();
            file.seek(SeekFrom::Start(len.saturating_sub(MAX)))?;
            let mut bytes = Vec::new();
            file.take(MAX).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        // It only adds to a message; without it that says less.
        last_lines(&String::from_utf8_lossy(&read().unwrap_or_default()), lines)
    }

    /// Removes the directory and all that is in it.
    pub(crate) fn remove(self) -> Result<(), SandboxError> {
        remove(&self.path)
    }
}

/// Removes a sandbox's directory, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), SandboxError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(SandboxError::io("remove the directory", path)(e))
        }
        _ => Ok(()),
    }
}

/// The end of a text that somebody else wrote, fit for a terminal.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let text: String = text
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect();
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_of_any_length_has_sockets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x".repeat(200)).join("y".repeat(200));
        let dir = SandboxDir::create(&path).unwrap();
        let (listener, stream) = dir.connected_listener().unwrap();
        drop(stream);
        listener.accept().unwrap();
        dir.listen(65536).unwrap();
        assert!(path.join("vsock.sock_65536").exists());
        dir.unlisten(65536);
        dir.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn tail_is_short_and_harmless() {
        assert_eq!(
            last_lines("one\r\ntwo\x1b[2J\n\nthree\n", 2),
            "two[2J\nthree"
        );
        assert_eq!(last_lines("", 3), "");
        let directory = tempfile::tempdir().unwrap();
        let dir = SandboxDir::open(directory.path()).unwrap();
        fs::write(directory.path().join("log"), "x\n".repeat(10_000)).unwrap();
        assert_eq!(dir.tail("log", 3), "x\nx\nx");
        assert_eq!(dir.tail("no such log", 3), "");
    }
}
