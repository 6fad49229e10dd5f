//! `process`: what is executed, and as whom.

use std::path::PathBuf;

use serde::Deserialize;

use super::null_is_default;

/// `process` of a configuration, and what an `exec` asks for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Process {
    /// Ids it runs with.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) user: User,
    /// The command and its arguments.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) args: Vec<String>,
    /// `NAME=value` each.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) env: Vec<String>,
    /// Working directory, within the container.
    pub(crate) cwd: PathBuf,
    /// The five capability sets; absent means none at all.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) capabilities: Capabilities,
    /// Resource limits.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) rlimits: Vec<Rlimit>,
    /// Whether `execve` may give no further privileges.
    pub(crate) no_new_privileges: bool,
    /// Written to `oom_score_adj`.
    pub(crate) oom_score_adj: Option<i16>,
    /// How it is scheduled, if not as the agent is.
    pub(crate) scheduler: Option<Scheduler>,
    /// How urgent its input and output are, likewise.
    pub(crate) io_priority: Option<IoPriority>,
    /// Processors of a process that an `exec` adds.
    #[serde(rename = "execCPUAffinity", deserialize_with = "null_is_default")]
    pub(crate) exec_cpu_affinity: CpuAffinity,
}

/// `process.execCPUAffinity`. Of `initial`, which would hold until the process is in the
/// container's cgroup, nothing is left: it is made there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct CpuAffinity {
    /// A list, as `0-2,5`.
    #[serde(rename = "final")]
    pub(crate) last: Option<String>,
}

/// `process.scheduler`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Scheduler {
    /// Name, as `SCHED_BATCH`.
    pub(crate) policy: String,
    /// From -20, the most favourable, to 19.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) nice: i32,
    /// Priority under the real-time policies.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) priority: i32,
    /// Names, as `SCHED_FLAG_RECLAIM`.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) flags: Vec<String>,
    /// Nanoseconds of each period that it needs, for deadlines.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) runtime: u64,
    /// Nanoseconds within which it needs them.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) deadline: u64,
    /// Nanoseconds of a period.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) period: u64,
}

/// `process.ioPriority`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct IoPriority {
    /// Name, as `IOPRIO_CLASS_BE`.
    pub(crate) class: String,
    /// Level within the class, from 0, the most urgent, to 7.
    pub(crate) priority: i64,
}

/// `process.user`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct User {
    /// User id, in the container's user namespace.
    pub(crate) uid: u32,
    /// Group id, likewise.
    pub(crate) gid: u32,
    /// Mask of file creation modes.
    pub(crate) umask: Option<u32>,
    /// Supplementary groups.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) additional_gids: Vec<u32>,
}

/// `process.capabilities`: names such as `CAP_CHOWN`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Capabilities {
    /// What `execve` can ever give.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) bounding: Vec<String>,
    /// What the kernel checks.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) effective: Vec<String>,
    /// What passes through `execve` of files that ask for it.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) inheritable: Vec<String>,
    /// What may be made effective.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) permitted: Vec<String>,
    /// What passes through `execve` of any file.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) ambient: Vec<String>,
}

/// One of `process.rlimits`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Rlimit {
    /// Name, as `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What is enforced.
    pub(crate) soft: u64,
    /// What `soft` may be raised to.
    pub(crate) hard: u64,
}
