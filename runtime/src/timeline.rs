//! Where the time of a start went (docs/timeline.md).

use std::fs;
use std::io;
use std::path::Path;

use bulkhead_protocol::Stamps;
use bulkhead_vmm::control::{Event, GuestTsc, Stamp};
use serde::Serialize;

use crate::clock::Moment;

/// The phases of one start, as they are learnt.
#[derive(Debug)]
pub(crate) struct Timeline {
    started: Moment,
    kvm_ready: Option<Moment>,
    entered: Option<(Stamp, Option<GuestTsc>)>,
    agent: Option<Stamps>,
    exec_tsc: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Phase {
    name: &'static str,
    /// Since the first instructions of this process.
    ms: f64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Clock {
    process_start_ns: u64,
    tsc_khz: u32,
    reference_guest_tsc: u64,
    reference_ns: u64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Report {
    phases: Vec<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<Clock>,
}

impl Timeline {
    /// A start that began with this process, at `started`.
    pub(crate) fn new(started: Moment) -> Self {
        Self {
            started,
            kvm_ready: None,
            entered: None,
            agent: None,
            exec_tsc: None,
        }
    }

    /// Notes what the VMM tells.
    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::KvmReady(stamp) => self.kvm_ready = Some(Moment(stamp.monotonic_ns)),
            Event::KernelEntered { at, guest_tsc } => self.entered = Some((*at, *guest_tsc)),
            Event::Exit { .. } | Event::Failed { .. } => {}
        }
    }

    /// Notes the agent's stamps.
    pub(crate) fn note_agent(&mut self, stamps: Stamps) {
        self.agent = Some(stamps);
    }

    /// Notes when the container's command ran: the guest's time stamp counter.
    pub(crate) fn note_exec(&mut self, tsc: u64) {
        self.exec_tsc = Some(tsc);
    }

    /// Writes what is known to a file.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&self.report())?;
        text.push(b'\n');
        fs::write(path, text)
    }

    fn report(&self) -> Report {
        let mut phases = vec![Phase {
            name: "process-start",
            ms: 0.0,
        }];
        let mut add = |name, moment: Moment| {
            phases.push(Phase {
                name,
                ms: moment.ms_since(self.started),
            });
        };
        if let Some(moment) = self.kvm_ready {
            add("kvm-ready", moment);
        }
        if let Some((stamp, guest_tsc)) = self.entered {
            add("kernel-entered", Moment(stamp.monotonic_ns));
            // A guest can claim any stamp; it is shown as it comes.
            let in_guest = |tsc| guest_tsc.map(|g| Moment(g.monotonic_ns(stamp, tsc)));
            let stamps = [
                ("agent-started", self.agent.map(|agent| agent.started_tsc)),
                ("agent-ready", self.agent.map(|agent| agent.ready_tsc)),
                ("first-instruction", self.exec_tsc),
            ];
            for (name, tsc) in stamps {
                if let Some(moment) = tsc.and_then(in_guest) {
                    add(name, moment);
                }
            }
        }
        Report {
            phases,
            clock: self.clock(),
        }
    }

    fn clock(&self) -> Option<Clock> {
        let (stamp, guest_tsc) = self.entered?;
        let guest_tsc = guest_tsc?;
        Some(Clock {
            process_start_ns: self.started.0,
            tsc_khz: guest_tsc.khz,
            reference_guest_tsc: stamp.tsc.wrapping_add(guest_tsc.offset),
            reference_ns: stamp.monotonic_ns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: Moment = Moment(1_000_000_000);

    fn entered(guest_tsc: Option<GuestTsc>) -> Timeline {
        let mut timeline = Timeline::new(STARTED);
        let stamp = |ms: u64| Stamp {
            monotonic_ns: STARTED.0 + ms * 1_000_000,
            tsc: ms * 2_000_000,
        };
        timeline.note(&Event::KvmReady(stamp(2)));
        timeline.note(&Event::KernelEntered {
            at: stamp(3),
            guest_tsc,
        });
        timeline.note_agent(Stamps {
            started_tsc: 20_000_000,
            ready_tsc: 22_000_000,
        });
        timeline.note_exec(24_000_000);
        timeline
    }

    fn names(report: &Report) -> Vec<&str> {
        report.phases.iter().map(|phase| phase.name).collect()
    }

    #[test]
    fn guest_and_host_are_on_one_axis() {
        // The guest's counter stands at zero when the host's stands at 6,000,000.
        let guest_tsc = GuestTsc {
            offset: 0u64.wrapping_sub(6_000_000),
            khz: 2_000_000,
        };
        let report = entered(Some(guest_tsc)).report();
        let expected = [
            ("process-start", 0.0),
            ("kvm-ready", 2.0),
            ("kernel-entered", 3.0),
            ("agent-started", 13.0),
            ("agent-ready", 14.0),
            ("first-instruction", 15.0),
        ];
        let expected: Vec<_> = expected.map(|(name, ms)| Phase { name, ms }).into();
        assert_eq!(report.phases, expected);
        let clock = report.clock.unwrap();
        assert_eq!(
            (clock.reference_guest_tsc, clock.reference_ns),
            (0, 1_003_000_000)
        );
        assert_eq!(
            (clock.process_start_ns, clock.tsc_khz),
            (STARTED.0, 2_000_000)
        );
    }

    #[test]
    fn unknown_offset_leaves_the_guest_out() {
        let report = entered(None).report();
        assert_eq!(
            names(&report),
            ["process-start", "kvm-ready", "kernel-entered"]
        );
        assert_eq!(report.clock, None);
    }

    #[test]
    fn start_that_was_cut_short_tells_what_it_knows() {
        let report = Timeline::new(STARTED).report();
        assert_eq!(names(&report), ["process-start"]);
    }
}
