//! What is known of a container between two commands.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host_cgroup::HostCgroup;
use crate::id::ContainerId;
use crate::process::ProcessRef;

/// The OCI version that `state` reports.
pub(crate) const OCI_VERSION: &str = "1.2.0";

/// A container, as recorded in its `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Its id.
    pub(crate) id: ContainerId,
    /// Absolute path of its bundle.
    pub(crate) bundle: PathBuf,
    /// Absolute path of its root file system.
    pub(crate) rootfs: PathBuf,
    /// The bundle's annotations.
    pub(crate) annotations: BTreeMap<String, String>,
    /// When it was created, as in RFC 3339.
    pub(crate) created: String,
    /// How far it has got, as far as it was recorded; see [`State::status`].
    pub(crate) phase: Phase,
    /// Whether `pause` has stopped its processes.
    #[serde(default)]
    pub(crate) paused: bool,
    /// The process of the host that stands for it.
    pub(crate) monitor: ProcessRef,
    /// Its sandbox's VMM.
    pub(crate) vmm: Option<ProcessRef>,
    /// Its sandbox's file server.
    pub(crate) fsd: Option<ProcessRef>,
    /// Its cgroup on this host, if it has one.
    #[serde(default)]
    pub(crate) cgroup: Option<HostCgroup>,
    /// How it ended, if it was seen to.
    pub(crate) exit: Option<Exit>,
}

/// The recorded part of a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Its sandbox is being set up.
    Creating,
    /// It waits for `start`.
    Created,
    /// Its command runs.
    Running,
    /// It is over.
    Stopped,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// Its exit code, 128 + n for a signal.
    pub(crate) code: u8,
    /// What went wrong, if it did not end by itself.
    pub(crate) reason: Option<String>,
}

/// Where a container is in its life (OCI runtime specification, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// It is being created.
    Creating,
    /// It waits for `start`.
    Created,
    /// Its command runs.
    Running,
    /// Its processes stand still.
    Paused,
    /// It is over.
    Stopped,
}

impl Status {
    /// Whether `start` makes sense.
    pub(crate) fn can_start(self) -> bool {
        self == Self::Created
    }

    /// Whether there may be a process that a signal could be sent to. What is
    /// recorded as being created may run already: its first output can be seen
    /// before that is written down.
    pub(crate) fn can_signal(self) -> bool {
        self != Self::Stopped
    }

    /// Whether a further process can be added: like with runc, before the
    /// container is started, too. How far one that is recorded as being created
    /// has got, its agent knows.
    pub(crate) fn can_exec(self) -> bool {
        !matches!(self, Self::Stopped | Self::Paused)
    }

    /// Whether `delete` works without force. Like runc, and as engines rely
    /// on, a container that never ran may go as one that is over.
    pub(crate) fn can_delete(self) -> bool {
        matches!(self, Self::Created | Self::Stopped)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

impl State {
    /// Where the container is now: a container whose monitor is gone is over,
    /// whatever was recorded last.
    pub(crate) fn status(&self) -> Status {
        match self.phase {
            Phase::Stopped => Status::Stopped,
            _ if !self.monitor.is_alive() => Status::Stopped,
            Phase::Creating => Status::Creating,
            _ if self.paused => Status::Paused,
            Phase::Created => Status::Created,
            Phase::Running => Status::Running,
        }
    }

    /// Records progress. A container never goes back: what ended stays ended,
    /// although the command that started it may come to record that later.
    pub(crate) fn advance(&mut self, phase: Phase) {
        self.phase = self.phase.max(phase);
    }

    /// The container as the OCI runtime specification describes it, with
    /// runc's additions.
    pub(crate) fn describe(&self) -> Description<'_> {
        let status = self.status();
        Description {
            oci_version: OCI_VERSION,
            id: &self.id,
            pid: if status == Status::Stopped {
                0
            } else {
                self.monitor.pid
            },
            status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            annotations: &self.annotations,
            owner: "",
            exit: self.exit.as_ref(),
        }
    }
}

/// What `state` and `list --format json` print, and hooks read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Description<'a> {
    oci_version: &'static str,
    id: &'a ContainerId,
    pid: i32,
    status: Status,
    bundle: &'a PathBuf,
    rootfs: &'a PathBuf,
    created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<&'a Exit>,
}

impl<'a> Description<'a> {
    /// Names the owner, which like runc only `list` does.
    pub(crate) fn owned_by(self, owner: &'a str) -> Self {
        Self { owner, ..self }
    }
}

impl Description<'_> {
    /// Absolute path of the container's bundle.
    pub(crate) fn bundle(&self) -> &Path {
        self.bundle
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A container of which this process is the monitor.
    pub(crate) fn state(id: &str, phase: Phase) -> State {
        State {
            id: ContainerId::parse(id).unwrap(),
            bundle: "/bundle".into(),
            rootfs: "/bundle/rootfs".into(),
            annotations: BTreeMap::new(),
            created: "2026-01-01T00:00:00Z".into(),
            phase,
            paused: false,
            monitor: ProcessRef::current().unwrap(),
            vmm: None,
            fsd: None,
            cgroup: None,
            exit: None,
        }
    }

    #[test]
    fn transitions_are_those_of_the_specification() {
        use Status::{Created, Creating, Paused, Running, Stopped};
        let allowed = |check: fn(Status) -> bool| {
            [Creating, Created, Running, Paused, Stopped]
                .into_iter()
                .filter(|s| check(*s))
                .collect::<Vec<_>>()
        };
        assert_eq!(allowed(Status::can_start), [Created]);
        assert_eq!(
            allowed(Status::can_signal),
            [Creating, Created, Running, Paused]
        );
        assert_eq!(allowed(Status::can_exec), [Creating, Created, Running]);
        assert_eq!(allowed(Status::can_delete), [Created, Stopped]);
    }

    #[test]
    fn start_recorded_late_does_not_revive() {
        let mut state = state("a", Phase::Stopped);
        state.advance(Phase::Running);
        assert_eq!(state.phase, Phase::Stopped);
    }

    #[test]
    fn container_without_its_monitor_is_stopped() {
        let mut state = state("a", Phase::Running);
        assert_eq!(state.status(), Status::Running);
        state.monitor =
            serde_json::from_str(r#"{"pid":1,"start_time":18446744073709551615}"#).unwrap();
        assert_eq!(state.status(), Status::Stopped);
        assert_eq!(state.describe().pid, 0);
    }

    #[test]
    fn description_has_the_fields_of_the_specification() {
        let state = state("a", Phase::Created);
        let json = serde_json::to_value(state.describe()).unwrap();
        assert_eq!(json["ociVersion"], OCI_VERSION);
        assert_eq!(json["status"], "created");
        assert_eq!(json["pid"], std::process::id());
        assert_eq!(json["bundle"], "/bundle");
    }
}
