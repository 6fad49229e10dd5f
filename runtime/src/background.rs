//! Commands that leave a process of this program behind, and wait until it
//! has got as far as they promise.
//!
//! The process tells so through a pipe of the command's, which it opens by its
//! path below the command's `/proc` entry: nothing need be inherited, and so
//! nothing can be passed on by mistake.

use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Child, Command};

use bulkhead_protocol::frame;
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use crate::events::Waiter;
use crate::logging;
use crate::sandbox::{Ending, this_program};

/// What the process in the background tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Report {
    /// It has got as far as was asked.
    Ready,
    /// It has not.
    Failed(Failure),
}

/// An error of another process, as it is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    /// The exit code that belongs to it, if it is a particular one.
    pub(crate) exit_code: Option<u8>,
}

/// Why a command has nobody in the background.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackgroundError {
    /// The process could not be started.
    #[error("cannot start a process in the background")]
    Spawn(#[source] io::Error),
    /// What it told could not be read.
    #[error("cannot follow the process in the background")]
    Follow(#[source] io::Error),
    /// What it told could not be read.
    #[error("cannot follow the process in the background")]
    Report(#[from] frame::Error),
    /// It ended without a word.
    #[error("the process in the background {0} before it was ready")]
    Ended(Ending),
    /// It failed, and told why.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Starts `bulkhead <verb> --report …`, with further arguments by `configure`,
/// and waits until it is ready. It does not keep the caller's directory busy:
/// paths for it are absolute.
pub(crate) fn start<E: From<BackgroundError>>(
    verb: &str,
    configure: impl FnOnce(&mut Command) -> Result<(), E>,
) -> Result<(), E> {
    let (reader, writer) = io::pipe().map_err(BackgroundError::Spawn)?;
    let mut command = this_program(verb);
    let path = format!("/proc/{}/fd/{}", std::process::id(), writer.as_raw_fd());
    command.current_dir("/").arg("--report").arg(path);
    configure(&mut command)?;
    let child = command.spawn().map_err(BackgroundError::Spawn)?;
    Ok(wait_until_ready(child, reader)?)
}

fn wait_until_ready(mut child: Child, mut reader: PipeReader) -> Result<(), BackgroundError> {
    let handle = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
        .map_err(|errno| BackgroundError::Follow(errno.into()))?;
    let mut waiter = Waiter::new();
    waiter.readable(true, reader.as_fd());
    waiter.readable(false, handle.as_fd());
    let has_reported = waiter
        .wait(None)
        .map_err(BackgroundError::Follow)?
        .contains(&true);
    if !has_reported {
        let status = child.wait().map_err(BackgroundError::Follow)?;
        return Err(BackgroundError::Ended(Ending(status)));
    }
    match frame::read(&mut reader)? {
        Some(Report::Ready) => Ok(()),
        Some(Report::Failed(failure)) => {
            // It ends now, and must not be found as our zombie.
            let _ = child.wait();
            Err(failure.into())
        }
        None => Err(BackgroundError::Follow(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// The other side: where a process in the background tells how far it got.
#[derive(Debug)]
pub(crate) struct Reporter(Option<File>);

impl Reporter {
    /// Opens what `--report` names.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        File::options().write(true).open(path).map(Some).map(Self)
    }

    /// Tells that everything is as asked. Fails if nobody waits for it any
    /// more; then nobody wants it.
    pub(crate) fn ready(&mut self) -> io::Result<()> {
        self.send(&Report::Ready)
    }

    /// Tells why it came to nothing; `false` if readiness was told before, so
    /// that nobody listens any more.
    pub(crate) fn failed(&mut self, error: &dyn std::error::Error, exit_code: Option<u8>) -> bool {
        let waited_for = self.0.is_some();
        let failure = Failure {
            message: logging::chain(error),
            exit_code,
        };
        // Nobody else is left to tell.
        let _ = self.send(&Report::Failed(failure));
        waited_for
    }

    fn send(&mut self, report: &Report) -> io::Result<()> {
        let Some(mut file) = self.0.take() else {
            return Ok(());
        };
        frame::write(&mut file, report).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_word_is_the_last() {
        let (mut reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let mut reporter = Reporter::open(Path::new(&path)).unwrap();
        drop(writer);
        reporter.ready().unwrap();
        assert!(!reporter.failed(&io::Error::other("later"), None));
        assert_eq!(frame::read(&mut reader).unwrap(), Some(Report::Ready));
        assert_eq!(frame::read::<Report>(&mut reader).unwrap(), None);
    }

    #[test]
    fn failure_arrives_with_its_code() {
        let (mut reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let mut reporter = Reporter::open(Path::new(&path)).unwrap();
        assert!(reporter.failed(&io::Error::other("no such command"), Some(127)));
        let failure = Failure {
            message: "no such command".into(),
            exit_code: Some(127),
        };
        assert_eq!(
            frame::read(&mut reader).unwrap(),
            Some(Report::Failed(failure))
        );
    }

    #[test]
    fn command_that_is_gone_is_noticed() {
        let (reader, writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let mut reporter = Reporter::open(Path::new(&path)).unwrap();
        drop((reader, writer));
        reporter.ready().unwrap_err();
    }
}
