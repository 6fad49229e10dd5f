//! The file that `bulkhead run --timeline` writes (docs/timeline.md).

use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

/// `CLOCK_MONOTONIC`, in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Where the time of a start went.
#[derive(Debug, Deserialize)]
pub(crate) struct Timeline {
    phases: Vec<Phase>,
    /// Absent where the host cannot tell the guest's offset.
    pub(crate) clock: Option<Clock>,
}

#[derive(Debug, Deserialize)]
struct Phase {
    name: String,
    /// Since the process's first instructions.
    ms: f64,
}

/// How the guest's time stamp counter and the host's clock belong together.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Clock {
    /// `CLOCK_MONOTONIC` at the phase named `process-start`.
    process_start_ns: u64,
    tsc_khz: u64,
    /// The guest's time stamp counter at the moment `reference_ns`.
    reference_guest_tsc: u64,
    reference_ns: u64,
}

impl Clock {
    /// `CLOCK_MONOTONIC` when the guest's counter stood at `guest_tsc`.
    fn monotonic_ns(&self, guest_tsc: u64) -> i128 {
        let ticks = i128::from(guest_tsc) - i128::from(self.reference_guest_tsc);
        i128::from(self.reference_ns) + ticks * 1_000_000 / i128::from(self.tsc_khz.max(1))
    }

    /// Milliseconds from a moment on the host to one in the guest.
    pub(crate) fn ms_from_host(&self, from_ns: u64, to_guest_tsc: u64) -> f64 {
        milliseconds(self.monotonic_ns(to_guest_tsc) - i128::from(from_ns))
    }

    /// Milliseconds from a moment in the guest to one on the host.
    pub(crate) fn ms_to_host(&self, from_guest_tsc: u64, to_ns: u64) -> f64 {
        milliseconds(i128::from(to_ns) - self.monotonic_ns(from_guest_tsc))
    }
}

impl Timeline {
    /// The phases' moments, in milliseconds since `exec_ns`, when the runtime
    /// was executed.
    pub(crate) fn moments_since(&self, clock: &Clock, exec_ns: u64) -> Vec<(String, f64)> {
        let until_start = milliseconds(i128::from(clock.process_start_ns) - i128::from(exec_ns));
        let phases = self.phases.iter();
        phases
            .map(|phase| (phase.name.clone(), until_start + phase.ms))
            .collect()
    }
}

#[allow(clippy::cast_precision_loss)]
fn milliseconds(ns: i128) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
        "phases": [ { "name": "process-start", "ms": 0.0 }, { "name": "kvm-ready", "ms": 1.5 } ],
        "clock": {
            "process_start_ns": 10000000, "tsc_khz": 2000000,
            "reference_guest_tsc": 4000000, "reference_ns": 12000000
        }
    }"#;

    #[test]
    fn guest_and_host_are_on_one_axis() {
        let timeline: Timeline = serde_json::from_str(TEXT).unwrap();
        let clock = timeline.clock.unwrap();
        let moments = timeline.moments_since(&clock, 9_000_000);
        let expected = [("process-start", 1.0), ("kvm-ready", 2.5)];
        assert_eq!(moments, expected.map(|(name, ms)| (name.to_owned(), ms)));
        // 2,000,000 ticks, a millisecond, before the reference: at 11 ms.
        let since = clock.ms_from_host(9_000_000, 2_000_000);
        let until = clock.ms_to_host(2_000_000, 16_000_000);
        assert_eq!([since, until].map(|ms| ms.to_string()), ["2", "5"]);
    }
}
