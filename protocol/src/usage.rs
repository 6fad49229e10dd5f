//! What a container uses of its guest, and the processes in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a container has used, by the counters of its cgroup (the kernel's
/// `Documentation/admin-guide/cgroup-v2.rst`). What a guest does not count is zero
/// or absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// `cpu.stat`.
    pub cpu: BTreeMap<String, u64>,
    /// Memory.
    pub memory: Level,
    /// Swap.
    pub swap: Level,
    /// `memory.stat`, in bytes, and counts of events.
    pub memory_stat: BTreeMap<String, u64>,
    /// `memory.events`: how often the limits were met.
    pub memory_events: BTreeMap<String, u64>,
    /// Tasks.
    pub tasks: Level,
    /// `io.stat`.
    pub io: Vec<DeviceUsage>,
}

/// Something of which a cgroup has an amount, and can have so much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Now.
    pub current: u64,
    /// The most there has been.
    pub peak: u64,
    /// The most there may be; `None` if there is no limit.
    pub max: Option<u64>,
}

/// What went to and from a block device of the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceUsage {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// By the kernel's keys: `rbytes`, `wbytes`, `rios`, `wios`, ….
    pub counts: BTreeMap<String, u64>,
}

/// A process in a container, by `proc_pid_stat(5)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// In the guest's initial pid namespace.
    pub pid: i32,
    /// Its parent, likewise.
    pub parent: i32,
    /// Effective user id, in the guest's initial user namespace.
    pub uid: u32,
    /// Processor time it has used, in milliseconds.
    pub cpu_ms: u64,
    /// How long ago it was started, in seconds.
    pub age_s: u64,
    /// Device number of its terminal; 0 if it has none.
    pub terminal: u32,
    /// Command and arguments; its name in brackets if it has none.
    pub command: String,
}
