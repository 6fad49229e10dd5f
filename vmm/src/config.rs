//! The configuration as it travels: JSON in, nothing checked.
//!
//! [`VmSpec`](crate::spec::VmSpec) is what a valid one becomes.

use std::os::fd::RawFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A microVM to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The guest's kernel: an uncompressed ELF image (`vmlinux`) for `x86_64`.
    pub kernel: PathBuf,
    /// The guest's first file system: a cpio archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initramfs: Option<PathBuf>,
    /// What to add to the kernel's command line. The VMM itself adds the
    /// parameters that describe its devices.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cmdline: String,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Size of the guest's RAM in MiB.
    pub memory_mib: u64,
    /// Where the serial console's output goes; nowhere if absent. What goes to
    /// a regular file is bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<Endpoint>,
    /// The socket device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsock: Option<VsockConfig>,
    /// Shared file systems.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fs: Vec<FsConfig>,
    /// Network interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub net: Vec<NetConfig>,
    /// Whether the guest gets an entropy device.
    #[serde(default)]
    pub rng: bool,
    /// An inherited stream socket on which the VMM writes its
    /// [events](crate::control::Event), and whose hang-up ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_fd: Option<RawFd>,
}

/// Something to read from or write to: a path or an inherited descriptor,
/// which the VMM then owns. Relative paths are relative to the VMM's working
/// directory, so that those of sockets can be kept short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// An inherited file descriptor, not one of the standard three.
    Fd(RawFd),
    /// A path.
    Path(PathBuf),
}

/// A virtio socket device whose host side is a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockConfig {
    /// The guest's context id; 0 to 2 are reserved.
    pub cid: u64,
    /// Where the VMM listens for connections to the guest. Connections from
    /// the guest to port `P` go to this path with `_P` appended.
    pub socket: PathBuf,
}

/// A virtio file system device served by a vhost-user backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FsConfig {
    /// What the guest mounts it by: 1 to 36 bytes.
    pub tag: String,
    /// The backend: an inherited stream that is connected to it, or the path
    /// of the socket it listens on.
    pub backend: Endpoint,
}

/// A virtio network device. One with several pairs of queues has a thread for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// Its address, of one station.
    pub mac: [u8; 6],
    /// The most that one of its frames may hold, in bytes; unspecified if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// An inherited tap for each pair of queues, 1 to
    /// [`QUEUE_PAIRS_MAX`](Self::QUEUE_PAIRS_MAX): without packet information, with
    /// virtio headers of 12 bytes, checksum and TSO offloads.
    pub tap_fds: Vec<RawFd>,
}

impl NetConfig {
    /// The most pairs of queues that a device may have.
    pub const QUEUE_PAIRS_MAX: usize = 8;
}
