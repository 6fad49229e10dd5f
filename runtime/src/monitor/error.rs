//! Why a container could not be run, or did not end by itself.

use std::io;

use bulkhead_protocol::{ErrorKind, RemoteError};

use crate::agent::AgentError;
use crate::bundle::BundleError;
use crate::devices::HostDevice;
use crate::guest_spec::MountError;
use crate::hooks::HookError;
use crate::host_cgroup::CgroupError;
use crate::installation::MissingFile;
use crate::namespaces::NamespaceError;
use crate::network::NetworkError;
use crate::resources::ResourceError;
use crate::sandbox::{Demise, SandboxError, quoted};
use crate::seccomp::ProfileError;
use crate::signals;
use crate::stdio::console::ConsoleError;
use crate::store::StoreError;

/// Exit code of a command that exists but cannot be executed.
const NOT_EXECUTABLE: u8 = 126;

/// Exit code of a command that does not exist.
const NOT_FOUND: u8 = 127;

/// Why a container could not be run, or did not end by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MonitorError {
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A mount cannot be had.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A device cannot be had.
    #[error(transparent)]
    Device(#[from] HostDevice),
    /// A microVM of that size cannot be had.
    #[error(transparent)]
    Resources(#[from] ResourceError),
    /// The seccomp profile cannot be used.
    #[error(transparent)]
    Seccomp(#[from] ProfileError),
    /// A namespace is none.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The network cannot be taken over.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The container's cgroup on the host cannot be had.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The guest's kernel or initramfs is not there.
    #[error(transparent)]
    Installation(#[from] MissingFile),
    /// The container's record cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sandbox could not be set up or torn down.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The terminal could not be set up.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// There is nobody to give a terminal to.
    #[error(
        "the container wants a terminal (process.terminal), which in the background takes --console-socket"
    )]
    NoConsole,
    /// There is no terminal to give.
    #[error(
        "--console-socket is given, but the container runs in the foreground or wants no terminal (process.terminal)"
    )]
    UnwantedConsole,
    /// The guest, or a process of its sandbox, ended before the container ran.
    #[error("the container did not start")]
    NotStarted(#[source] Demise),
    /// The guest, or a process of its sandbox, ended while the container ran.
    #[error("the container was lost")]
    Lost(#[source] Demise),
    /// The guest did not get as far as it should have.
    #[error(
        "the guest was not up within {seconds} s; set BULKHEAD_START_TIMEOUT if this host is slow{}",
        quoted("its console", console)
    )]
    Timeout {
        /// How long it was waited for.
        seconds: f64,
        /// The console's last lines.
        console: String,
    },
    /// A signal came before the container ran.
    #[error("the start was ended by signal {signal}")]
    Interrupted {
        /// The signal's number.
        signal: u8,
    },
    /// The container's end was awaited no longer.
    #[error("signal {signal} ended the wait for the container's last output")]
    Undrained {
        /// The signal's number.
        signal: u8,
    },
    /// The agent refused.
    #[error("cannot start the container: {}", explain(error))]
    Refused {
        /// Its reason.
        error: RemoteError,
    },
    /// The agent does not do what it should, though its guest runs.
    #[error("the agent failed{}", quoted("the guest's console", console))]
    Agent {
        /// How.
        source: AgentError,
        /// The console's last lines.
        console: String,
    },
    /// A system call failed that should not.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// How it failed.
        source: io::Error,
    },
}

impl MonitorError {
    /// For `map_err`.
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    /// The exit code that tells of this error, if it is a particular one.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        match self {
            Self::Refused { error } => command_exit_code(error),
            Self::Interrupted { signal }
            | Self::Undrained { signal }
            | Self::Hook(HookError::Interrupted { signal, .. }) => Some(128 + signal),
            // As if it had been killed, which is what has happened to it.
            Self::Lost(_) => Some(128 + signals::KILL),
            _ => None,
        }
    }
}

/// The exit code for a command that could not be run, by a shell's convention.
pub(crate) fn command_exit_code(error: &RemoteError) -> Option<u8> {
    match error.kind {
        ErrorKind::CommandNotFound => Some(NOT_FOUND),
        ErrorKind::CommandNotExecutable => Some(NOT_EXECUTABLE),
        _ => None,
    }
}

/// The agent's words, and for a command that could not be run those of runc,
/// by which engines tell the cases apart.
pub(crate) fn explain(error: &RemoteError) -> String {
    let words = match error.kind {
        ErrorKind::CommandNotFound => "executable file not found in $PATH",
        ErrorKind::CommandNotExecutable => "permission denied",
        _ => return error.message.clone(),
    };
    if error.message.to_lowercase().contains(&words.to_lowercase()) {
        error.message.clone()
    } else {
        format!("{}: {words}", error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_cannot_run_have_their_codes_and_words() {
        let refused = |kind, message: &str| MonitorError::Refused {
            error: RemoteError {
                kind,
                message: message.into(),
            },
        };
        let error = refused(ErrorKind::CommandNotFound, "cannot execute nope");
        assert_eq!(error.exit_code(), Some(127));
        assert!(
            error
                .to_string()
                .ends_with("nope: executable file not found in $PATH")
        );
        let error = refused(ErrorKind::CommandNotExecutable, "/x: Permission denied");
        assert_eq!(error.exit_code(), Some(126));
        assert!(error.to_string().ends_with("/x: Permission denied"));
        assert_eq!(refused(ErrorKind::Internal, "no").exit_code(), None);
    }
}
