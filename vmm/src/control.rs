//! The control stream: what the VMM tells the process that started it.
//!
//! One JSON object a line. The stream carries nothing towards the VMM: when
//! the other side closes it, or shuts its sending half down, the microVM
//! stops. After a mere shutdown the VMM can still tell how it ended.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use serde::{Deserialize, Serialize};

use crate::exit::ExitReason;
use crate::inherited_fd::InheritedFd;
use crate::stop::Stop;

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
        /// How to read the guest's own time stamps, if KVM tells (since Linux
        /// 5.16).
        guest_tsc: Option<GuestTsc>,
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

/// The stream, or nothing, for a VMM that nobody listens to. A clone is another
/// handle on the same stream.
#[derive(Clone, Debug)]
pub struct Control(Option<Arc<UnixStream>>);

impl Control {
    /// Takes the stream over.
    pub fn open(fd: Option<InheritedFd>) -> io::Result<Self> {
        let Some(fd) = fd else { return Ok(Self(None)) };
        let stream = UnixStream::from(fd.take()?);
        stream.set_nonblocking(false)?;
        Ok(Self(Some(Arc::new(stream))))
    }

    /// Writes an event.
    ///
    /// # Panics
    ///
    /// Never: events have nothing that JSON cannot express.
    pub fn send(&self, event: &Event) {
        let Some(stream) = &self.0 else { return };
        let mut line = serde_json::to_string(event).expect("events are plain data");
        line.push('\n');
        // Fails only when the other side is gone, and that stops the VMM anyway.
        let _ = stream.as_ref().write_all(line.as_bytes());
    }

    /// A handler that stops the microVM when the stream is hung up on.
    pub fn watch(&self, stop: Stop) -> Option<HangUpWatch> {
        let stream = self.0.clone()?;
        Some(HangUpWatch { stream, stop })
    }
}

/// Stops the microVM when the control stream is hung up on.
pub struct HangUpWatch {
    stream: Arc<UnixStream>,
    stop: Stop,
}

impl MutEventSubscriber for HangUpWatch {
    fn init(&mut self, ops: &mut EventOps) {
        let events = Events::new(self.stream.as_ref(), EventSet::READ_HANG_UP);
        if ops.add(events).is_err() {
            self.stop.request(ExitReason::ControlHangUp);
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let _ = ops.remove(events);
        self.stop.request(ExitReason::ControlHangUp);
    }
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
    use std::io::{BufRead, BufReader};
    use std::net::Shutdown;
    use std::os::fd::IntoRawFd;

    use super::*;
    use crate::event_loop::EventLoop;

    fn pair() -> (Control, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fd = InheritedFd::new(ours.into_raw_fd());
        (Control::open(Some(fd)).unwrap(), theirs)
    }

    #[test]
    fn shutdown_stops_but_still_hears_the_exit() {
        let (control, theirs) = pair();
        let mut event_loop = EventLoop::new().unwrap();
        let stop = Stop::new(event_loop.handle());
        event_loop.add(Box::new(control.watch(stop.clone()).unwrap()));
        theirs.shutdown(Shutdown::Write).unwrap();
        event_loop.run_once().unwrap();
        assert_eq!(stop.requested(), Some(&ExitReason::ControlHangUp));

        let exit = Event::Exit {
            reason: ExitReason::ControlHangUp,
            console_tail: "a\nb\n".into(),
        };
        control.send(&exit);
        let line = BufReader::new(theirs).lines().next().unwrap().unwrap();
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), exit);
    }

    #[test]
    fn sending_to_nobody_is_no_error() {
        let event = Event::Failed {
            error: String::new(),
        };
        Control::open(None).unwrap().send(&event);
        let (control, theirs) = pair();
        drop(theirs);
        control.send(&event);
    }

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
