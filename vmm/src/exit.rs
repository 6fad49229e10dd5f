//! How a microVM ends.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why the microVM stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum ExitReason {
    /// The guest switched itself off.
    PowerOff,
    /// The guest asked for a reset. The VMM does not restart it.
    Reset,
    /// The guest's kernel panicked; the console tells why.
    Panic,
    /// A vCPU met an exception that it could not deliver, three deep.
    TripleFault {
        /// Which vCPU.
        vcpu: u8,
    },
    /// The connection to a file system's backend broke.
    FsBackendLost {
        /// The file system's tag.
        tag: String,
        /// What was seen of it.
        detail: String,
    },
    /// The control stream was hung up on.
    ControlHangUp,
    /// KVM could not go on with a vCPU.
    VcpuFailed {
        /// Which vCPU.
        vcpu: u8,
        /// What KVM told.
        detail: String,
    },
    /// The event loop could not go on.
    EventLoopFailed {
        /// The error.
        detail: String,
    },
}

impl ExitReason {
    /// The code with which a process that ran the microVM exits. A process
    /// that could not start it exits with 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::PowerOff => 0,
            Self::Reset => 20,
            Self::Panic => 21,
            Self::TripleFault { .. } => 22,
            Self::FsBackendLost { .. } => 23,
            Self::ControlHangUp => 24,
            Self::VcpuFailed { .. } => 25,
            Self::EventLoopFailed { .. } => 26,
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => write!(f, "the guest powered off"),
            Self::Reset => write!(f, "the guest asked for a reset"),
            Self::Panic => write!(f, "the guest's kernel panicked"),
            Self::TripleFault { vcpu } => write!(f, "vCPU {vcpu} triple-faulted"),
            Self::FsBackendLost { tag, detail } => {
                write!(f, "the backend of file system {tag:?} is lost: {detail}")
            }
            Self::ControlHangUp => write!(f, "the control stream was hung up on"),
            Self::VcpuFailed { vcpu, detail } => write!(f, "vCPU {vcpu} failed: {detail}"),
            Self::EventLoopFailed { detail } => write!(f, "the event loop failed: {detail}"),
        }
    }
}
