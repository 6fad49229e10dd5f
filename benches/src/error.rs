//! What ends a measurement.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

/// A measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file system operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// A program cannot be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A command did not do what it was started for.
    #[error("`{command}` {outcome}{}", said(message))]
    Failed {
        /// As one would type it.
        command: String,
        /// What became of it.
        outcome: Outcome,
        /// The end of what it wrote to standard error.
        message: String,
    },
    /// Waiting for a process or its output failed.
    #[error("cannot wait for `{command}`")]
    Wait {
        /// As one would type it.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// The host's KVM does not tell the offset of a guest's time stamp counter.
    #[error("this host does not tell how the guest's clock and its own belong together")]
    NoClock,
    /// Two subjects of a comparison have the same name.
    #[error("the name {name:?} is given twice, or is Bulkhead's own")]
    NameTwice {
        /// The name.
        name: String,
    },
    /// A program to be compared with is none.
    #[error("{} is not a program", path.display())]
    NoProgram {
        /// Where it should be.
        path: PathBuf,
    },
    /// A VMM whose command line is not known.
    #[error(
        "{} is no VMM that can be compared: its name must begin with qemu, firecracker or \
         cloud-hypervisor", path.display()
    )]
    UnknownVmm {
        /// Its program.
        path: PathBuf,
    },
    /// A signal asked for an end.
    #[error("interrupted")]
    Interrupted,
    /// A file does not hold what it should.
    #[error("{} is not {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// How it is not.
        source: serde_json::Error,
    },
}

/// What became of a command that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Outcome {
    /// It ended with an unexpected code, or too early.
    #[error("ended with {0}")]
    Ended(ExitStatus),
    /// Its container closed its output without having told what it should.
    #[error("ended with {0} before its container had told that it runs")]
    Silent(ExitStatus),
    /// It was given up.
    #[error("took too long")]
    TimedOut,
}

fn said(message: &str) -> String {
    match message.trim() {
        "" => String::new(),
        message => format!(": {message}"),
    }
}

/// Tells what ended a program, and why; its exit code.
pub fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprint!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprint!(": {cause}");
        source = cause.source();
    }
    eprintln!();
    ExitCode::FAILURE
}

impl Error {
    /// For `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
