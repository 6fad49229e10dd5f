//! What can go wrong in a process before it executes its command.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use bulkhead_protocol::{ErrorKind, RemoteError};

/// Why a process could not be set up or its command not be executed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    #[error("cannot join namespace {}", path.display())]
    JoinNamespace { path: PathBuf, source: io::Error },
    #[error("cannot {action}")]
    Step {
        action: &'static str,
        source: io::Error,
    },
    #[error("cannot {action} {}", path.display())]
    Path {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot mount {what} on {}{log}", destination.display())]
    Mount {
        what: String,
        destination: PathBuf,
        /// What the file system had to say, if anything.
        log: String,
        source: io::Error,
    },
    #[error("cannot set kernel parameter {file} to '{value}'")]
    Sysctl {
        file: String,
        value: String,
        source: io::Error,
    },
    #[error("cannot run the startContainer hook {}", path.display())]
    Hook { path: PathBuf, source: io::Error },
    #[error("the startContainer hook {} failed ({status}): {output}", path.display())]
    HookFailed {
        path: PathBuf,
        status: ExitStatus,
        /// The end of what it had to say.
        output: String,
    },
    #[error("the startContainer hook {} did not end in time: {output}", path.display())]
    HookTimedOut {
        path: PathBuf,
        /// The end of what it had to say.
        output: String,
    },
    #[error("exec {command}: executable file not found in $PATH")]
    NotInPath { command: String },
    #[error("exec {command}")]
    NotFound { command: String, source: io::Error },
    #[error("exec {command}: its interpreter is missing")]
    InterpreterMissing { command: String, source: io::Error },
    #[error("exec {command}")]
    NotExecutable { command: String, source: io::Error },
}

impl SetupError {
    /// As the client is told.
    pub(super) fn to_remote(&self) -> RemoteError {
        let kind = match self {
            Self::NotInPath { .. } | Self::NotFound { .. } | Self::InterpreterMissing { .. } => {
                ErrorKind::CommandNotFound
            }
            Self::NotExecutable { .. } => ErrorKind::CommandNotExecutable,
            _ => ErrorKind::Internal,
        };
        crate::error::remote(kind, self)
    }

    /// What the process ends with, by a shell's convention.
    pub(super) fn exit_code(&self) -> u8 {
        match self.to_remote().kind {
            ErrorKind::CommandNotFound => 127,
            ErrorKind::CommandNotExecutable => 126,
            _ => 1,
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, SetupError>;

/// Names what a system call was for.
pub(super) trait Context<T> {
    fn step(self, action: &'static str) -> Result<T>;
    fn on_path(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn step(self, action: &'static str) -> Result<T> {
        self.map_err(|error| SetupError::Step {
            action,
            source: error.into(),
        })
    }

    fn on_path(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|error| SetupError::Path {
            action,
            path: path.into(),
            source: error.into(),
        })
    }
}
