//! Why clients do not get what they ask for.

use std::io;

use bulkhead_protocol::{ErrorKind, RemoteError};

use super::launch::LaunchError;
use super::requests::{MAX_CONTAINERS, MAX_EXECS};
use crate::cgroup::CgroupError;
use crate::error::remote;
use crate::guest::GuestError;
use crate::network::NetworkError;
use crate::plan::PlanError;

/// Why a request cannot be met.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("no container '{0}'")]
    NoContainer(String),
    #[error("no process '{exec}' in container '{container}'")]
    NoProcess { container: String, exec: String },
    #[error("container '{0}' exists already")]
    ContainerExists(String),
    #[error("process '{0}' exists already")]
    ProcessExists(String),
    #[error("'{0}' cannot be a container's id")]
    IllegalId(String),
    #[error("an exec needs a name")]
    UnnamedExec,
    #[error("the sandbox holds {MAX_CONTAINERS} containers already")]
    TooManyContainers,
    #[error("the container holds {MAX_EXECS} further processes already")]
    TooManyExecs,
    #[error("container '{container}' is {state}")]
    State {
        container: String,
        state: &'static str,
    },
    #[error("the process has ended")]
    Ended,
    #[error("the process has no terminal")]
    NoTerminal,
    #[error("cannot read the configuration")]
    Config(#[from] serde_json::Error),
    #[error("the configuration cannot be followed")]
    Plan(#[from] PlanError),
    #[error("a seccomp filter of {0} bytes is no filter")]
    SeccompFilter(usize),
    #[error("cannot give the container what it shares of the guest's own")]
    Guest(#[from] GuestError),
    #[error("cannot set up the network")]
    Network(#[from] NetworkError),
    #[error("cannot make the container's cgroup")]
    Cgroup(#[from] CgroupError),
    #[error("cannot start the process")]
    Launch(#[from] LaunchError),
    #[error("cannot {action}")]
    System {
        action: &'static str,
        source: io::Error,
    },
}

impl RequestError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoContainer(_) | Self::NoProcess { .. } => ErrorKind::NotFound,
            Self::ContainerExists(_) | Self::ProcessExists(_) => ErrorKind::AlreadyExists,
            Self::State { .. }
            | Self::Ended
            | Self::NoTerminal
            | Self::TooManyContainers
            | Self::TooManyExecs => ErrorKind::InvalidState,
            Self::IllegalId(_)
            | Self::UnnamedExec
            | Self::Config(_)
            | Self::Plan(_)
            | Self::SeccompFilter(_) => ErrorKind::InvalidConfig,
            Self::Guest(_)
            | Self::Network(_)
            | Self::Cgroup(_)
            | Self::Launch(_)
            | Self::System { .. } => ErrorKind::Internal,
        }
    }

    pub(super) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

impl From<RequestError> for RemoteError {
    fn from(error: RequestError) -> Self {
        remote(error.kind(), &error)
    }
}

pub(super) type Result<T> = std::result::Result<T, RequestError>;
