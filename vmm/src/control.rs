//! The control stream: what the VMM tells the process that started it.
//!
//! One JSON object a line. The stream carries nothing towards the VMM: when
//! the other side closes it, or shuts its sending half down, the microVM
//! stops. After a mere shutdown the VMM can still tell how it ended.

use serde::{Deserialize, Serialize};

use crate::exit::ExitReason;

/// A line on the control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// KVM has made the virtual machine.
    KvmReady(Stamp),
    /// The first vCPU is about to execute the guest's kernel.
    KernelEntered {
        /// When.
        at: Stamp,
        /// How to read the guest's own time stamps.
        guest_tsc: GuestTsc,
    },
    /// The microVM has stopped. The last line.
    Exit {
        /// Why.
        #[serde(flatten)]
        reason: ExitReason,
        /// The end of what the serial console has shown, at most 64 KiB; empty
        /// when the guest powered off.
        console_tail: String,
    },
    /// The microVM could not be started. The last line.
    Failed {
        /// The error and its causes.
        error: String,
    },
}

/// One moment on two clocks of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub monotonic_ns: u64,
    /// The time-stamp counter.
    pub tsc: u64,
}

/// How the guest's time-stamp counter relates to the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestTsc {
    /// The guest's counter minus the host's, wrapping.
    pub offset: u64,
    /// Frequency of the guest's counter, which is also the host's.
    pub khz: u32,
}

impl GuestTsc {
    /// `CLOCK_MONOTONIC` in nanoseconds when the guest read `guest_tsc`, given
    /// a moment on both of the host's clocks. Wraps if it is nonsense.
    pub fn monotonic_ns(&self, near: Stamp, guest_tsc: u64) -> u64 {
        let host_tsc = guest_tsc.wrapping_sub(self.offset);
        let ticks = i128::from(host_tsc.wrapping_sub(near.tsc) as i64);
        let ns = ticks * 1_000_000 / i128::from(self.khz.max(1));
        near.monotonic_ns.wrapping_add(ns as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_stamp_converts_to_host_time() {
        let near = Stamp {
            monotonic_ns: 5_000,
            tsc: 1_000_000,
        };
        let guest_tsc = GuestTsc {
            offset: 0u64.wrapping_sub(900_000),
            khz: 2_000_000,
        };
        assert_eq!(guest_tsc.monotonic_ns(near, 100_000), 5_000);
        assert_eq!(guest_tsc.monotonic_ns(near, 102_000), 6_000);
        assert_eq!(guest_tsc.monotonic_ns(near, 98_000), 4_000);
    }

    #[test]
    fn exit_event_is_one_flat_object() {
        let event = Event::Exit {
            reason: ExitReason::TripleFault { vcpu: 1 },
            console_tail: "bye\n".into(),
        };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(
            json,
            r#"{"event":"exit","reason":"triple-fault","vcpu":1,"console_tail":"bye\n"}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }
}
