//! What a monitor is told to do.

use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Moment;
use crate::host_cgroup::Driver;
use crate::id::ContainerId;

/// A container to make a sandbox for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// The container's id.
    pub(crate) id: ContainerId,
    /// Its bundle.
    pub(crate) bundle: PathBuf,
    /// How far the container goes by itself.
    pub(crate) until: Until,
    /// Whose terminal it gets, should it want one.
    pub(crate) terminal: Terminal,
    /// Whether its record goes as soon as it is over.
    pub(crate) remove: bool,
    /// Who makes cgroups on this host; nobody, if the container is to have none.
    pub(crate) cgroup_driver: Option<Driver>,
    /// How long the start may take.
    pub(crate) start_timeout: Duration,
    /// When the command began.
    pub(crate) started: Moment,
    /// Where the timeline of the start goes.
    pub(crate) timeline: Option<PathBuf>,
}

/// How far a container goes before somebody says `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// It waits for `start`.
    Created,
    /// It runs.
    Started,
}

/// Where a terminal comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// Standard input and output, which are a terminal or stand for one.
    Inherited,
    /// A pseudo-terminal, whose master goes to an engine's socket.
    Socket(PathBuf),
    /// Nowhere.
    None,
}
