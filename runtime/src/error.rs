//! The error that ends a command.

use std::io;
use std::path::PathBuf;

use bulkhead_vmm::host::Unsuitable;

use crate::agent::AgentError;
use crate::background::BackgroundError;
use crate::exec::ExecError;
use crate::hooks::HookError;
use crate::host_cgroup::CgroupError;
use crate::id::{ContainerId, InvalidId};
use crate::logging;
use crate::monitor::{MonitorError, command_exit_code, explain};
use crate::resources::{MEMORY_ANNOTATION, ResourceError};
use crate::sandbox::SandboxError;
use crate::signals::UnknownSignal;
use crate::state::Status;
use crate::store::StoreError;

/// What ends a command early. Each says what was tried and on what; where
/// there is something to be done about it, that too.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The id is not one.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The signal is not one.
    #[error(transparent)]
    Signal(#[from] UnknownSignal),
    /// The log file cannot be used.
    #[error(transparent)]
    Log(#[from] logging::OpenError),
    /// The container's record cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sandbox's directory cannot be used.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The container could not be run, or was lost.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// A process in the background did not do what it should.
    #[error(transparent)]
    Background(#[from] BackgroundError),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The container's cgroup on the host cannot be changed.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A further process could not be run, or was lost.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Nothing could be measured.
    #[error("cannot measure")]
    Bench(#[from] bulkhead_benches::Error),
    /// The host cannot run guests.
    #[error(transparent)]
    Host(#[from] Unsuitable),
    /// The size of a microVM makes no sense.
    #[error(transparent)]
    Resources(#[from] ResourceError),
    /// The microVM could not be run.
    #[error("cannot run the microVM")]
    Vmm(#[from] bulkhead_vmm::Error),
    /// The file server failed.
    #[error(transparent)]
    FileServer(#[from] bulkhead_fsd::Error),
    /// The container is not in a state for this.
    #[error("cannot {verb} container {id}: it is {status}{hint}")]
    WrongStatus {
        /// What was asked.
        verb: &'static str,
        /// Of which container.
        id: ContainerId,
        /// How it is.
        status: Status,
        /// What to do instead.
        hint: &'static str,
    },
    /// The container has ended, or its microVM has. The last words are runc's,
    /// by which engines know that nothing is left to kill.
    #[error("cannot {verb} container {id}: container not running")]
    NotRunning {
        /// What was asked.
        verb: &'static str,
        /// The container.
        id: ContainerId,
    },
    /// The agent does not do what was asked.
    #[error("cannot {verb} container {id}")]
    Agent {
        /// What was asked.
        verb: &'static str,
        /// Of which container.
        id: ContainerId,
        /// How it failed.
        source: AgentError,
    },
    /// The container's command cannot be run.
    #[error("cannot start container {id}: {}", explain(error))]
    Command {
        /// The container.
        id: ContainerId,
        /// The agent's reason.
        error: bulkhead_protocol::RemoteError,
    },
    /// A verb of runc's that this runtime does not have.
    #[error("{verb} is not supported: a microVM's state cannot be saved yet")]
    NotSupported {
        /// The verb.
        verb: &'static str,
    },
    /// A microVM's memory is what it is.
    #[error(
        "container {id} cannot have {limit} bytes of memory: its microVM has {memory_mib} MiB; create it anew with a higher limit, or with annotation {MEMORY_ANNOTATION}"
    )]
    MoreMemoryThanGuest {
        /// The container.
        id: ContainerId,
        /// What was asked for.
        limit: i64,
        /// What its guest has.
        memory_mib: u64,
    },
    /// Descriptors of the host mean nothing in a guest.
    #[error(
        "--preserve-fds {count} is not possible: file descriptors of the host cannot be passed into a microVM"
    )]
    PreserveFds {
        /// How many were to be passed.
        count: u32,
    },
    /// An option's value is not one.
    #[error("{value:?} is not valid for {option}: {reason}")]
    Value {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        reason: &'static str,
    },
    /// A file holds something else than it should.
    #[error("{} is not {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// How it is not.
        source: serde_json::Error,
    },
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
}

impl Error {
    /// For `map_err`.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// The exit code that tells of this error, if it is a particular one.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        match self {
            Self::Monitor(error) => error.exit_code(),
            Self::Exec(error) => error.exit_code(),
            Self::Background(BackgroundError::Failed(failure)) => failure.exit_code,
            Self::Command { error, .. } => command_exit_code(error),
            _ => None,
        }
    }
}
