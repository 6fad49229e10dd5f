//! `linux`: namespaces, devices, resources.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, de::IgnoredAny};

use super::null_is_default;

/// `linux` of a configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Linux {
    /// Namespaces that the container has of its own, or joins.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) namespaces: Vec<Namespace>,
    /// User ids of its user namespace.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) uid_mappings: Vec<IdMapping>,
    /// Group ids of its user namespace.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) gid_mappings: Vec<IdMapping>,
    /// Device nodes besides the default ones.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) devices: Vec<Device>,
    /// Limits, enforced by a cgroup.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) resources: Resources,
    /// Kernel parameters, dotted.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) sysctl: BTreeMap<String, String>,
    /// How mounts propagate from and to the root: `private`, `slave`, ….
    pub(crate) rootfs_propagation: Option<String>,
    /// Paths whose content is hidden.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) masked_paths: Vec<PathBuf>,
    /// Paths that cannot be written to.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) readonly_paths: Vec<PathBuf>,
    /// Offsets of clocks in its time namespace, by clock.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) time_offsets: BTreeMap<String, TimeOffset>,
    /// Execution domain.
    pub(crate) personality: Option<Personality>,
    /// Not supported.
    pub(crate) intel_rdt: Option<IgnoredAny>,
}

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NamespaceKind {
    /// Process ids.
    Pid,
    /// Network stack.
    Network,
    /// Mount points.
    Mount,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// User and group ids.
    User,
    /// View of the cgroup hierarchy.
    Cgroup,
    /// Monotonic and boot-time clocks.
    Time,
}

/// One of `linux.namespaces`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Namespace {
    /// Its kind.
    #[serde(rename = "type")]
    pub(crate) kind: NamespaceKind,
    /// An existing one to join; otherwise a new one is made.
    #[serde(default)]
    pub(crate) path: Option<PathBuf>,
}

/// A range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IdMapping {
    /// First id within the namespace.
    #[serde(rename = "containerID")]
    pub(crate) container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub(crate) host_id: u32,
    /// How many.
    pub(crate) size: u32,
}

/// One of `linux.devices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Device {
    /// `c`, `u`, `b` or `p`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Where, within the container's root.
    pub(crate) path: PathBuf,
    /// Major number.
    pub(crate) major: Option<i64>,
    /// Minor number.
    pub(crate) minor: Option<i64>,
    /// Permission bits.
    pub(crate) file_mode: Option<u32>,
    /// Owner.
    pub(crate) uid: Option<u32>,
    /// Group.
    pub(crate) gid: Option<u32>,
}

/// `linux.resources`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Resources {
    /// Which devices may be used, later rules before earlier ones.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) devices: Vec<DeviceRule>,
    /// Memory.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) memory: Memory,
    /// Processor time.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) cpu: Cpu,
    /// Number of tasks.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) pids: Pids,
    /// Block devices.
    #[serde(rename = "blockIO", deserialize_with = "null_is_default")]
    pub(crate) block_io: BlockIo,
    /// Huge pages.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) hugepage_limits: Vec<HugepageLimit>,
    /// Not supported.
    pub(crate) rdma: Option<IgnoredAny>,
    /// Files of the cgroup and what to write to them.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) unified: BTreeMap<String, String>,
}

/// One of `linux.resources.devices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct DeviceRule {
    /// Allow or deny.
    pub(crate) allow: bool,
    /// `a` for all, `c` or `b`; absent is `a`.
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    /// Major number; absent or -1 is any.
    pub(crate) major: Option<i64>,
    /// Minor number; absent or -1 is any.
    pub(crate) minor: Option<i64>,
    /// Letters of `rwm`; absent is all.
    pub(crate) access: Option<String>,
}

/// `linux.resources.memory`, in bytes; -1 is no limit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Memory {
    /// Most that may be used.
    pub(crate) limit: Option<i64>,
    /// What is protected from reclaim.
    pub(crate) reservation: Option<i64>,
    /// Most of memory and swap together.
    pub(crate) swap: Option<i64>,
}

/// `linux.resources.cpu`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Cpu {
    /// Relative share, 2 to 262144.
    pub(crate) shares: Option<u64>,
    /// Microseconds in each period; -1 is no limit.
    pub(crate) quota: Option<i64>,
    /// Microseconds that a further burst may take.
    pub(crate) burst: Option<u64>,
    /// Microseconds of a period.
    pub(crate) period: Option<u64>,
    /// List of processors.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) cpus: String,
    /// List of memory nodes.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) mems: String,
    /// 1: run only when nothing else wants to.
    pub(crate) idle: Option<i64>,
}

/// `linux.resources.pids`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pids {
    /// Most tasks; zero or less is no limit.
    pub(crate) limit: Option<i64>,
}

/// `linux.resources.blockIO`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct BlockIo {
    /// Relative share, 10 to 1000.
    pub(crate) weight: Option<u16>,
    /// Bytes a second.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) throttle_read_bps_device: Vec<Throttle>,
    /// Bytes a second.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) throttle_write_bps_device: Vec<Throttle>,
    /// Operations a second.
    #[serde(
        rename = "throttleReadIOPSDevice",
        deserialize_with = "null_is_default"
    )]
    pub(crate) throttle_read_iops_device: Vec<Throttle>,
    /// Operations a second.
    #[serde(
        rename = "throttleWriteIOPSDevice",
        deserialize_with = "null_is_default"
    )]
    pub(crate) throttle_write_iops_device: Vec<Throttle>,
}

/// A limit on one block device.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Throttle {
    /// Major number.
    pub(crate) major: u32,
    /// Minor number.
    pub(crate) minor: u32,
    /// The limit.
    pub(crate) rate: u64,
}

/// One of `linux.resources.hugepageLimits`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HugepageLimit {
    /// As the kernel names it: `2MB`, `1GB`.
    pub(crate) page_size: String,
    /// Bytes.
    pub(crate) limit: u64,
}

/// An offset of a clock.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TimeOffset {
    /// Whole seconds.
    pub(crate) secs: i64,
    /// And nanoseconds.
    pub(crate) nanosecs: u32,
}

/// `linux.personality`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Personality {
    /// The execution domain.
    pub(crate) domain: PersonalityDomain,
}

/// An execution domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum PersonalityDomain {
    /// 64 bits.
    #[serde(rename = "LINUX")]
    Linux,
    /// `uname` tells of a 32-bit machine.
    #[serde(rename = "LINUX32")]
    Linux32,
}
