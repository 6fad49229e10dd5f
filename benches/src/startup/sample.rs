//! One measured start.

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use crate::memory::Memory;

/// `CLOCK_MONOTONIC`, in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The file that `bulkhead run --timeline` writes (docs/timeline.md).
#[derive(Debug, Deserialize)]
pub(crate) struct Timeline {
    phases: Vec<Phase>,
    clock: Clock,
}

#[derive(Debug, Deserialize)]
struct Phase {
    name: String,
    /// Since the process's first instructions.
    ms: f64,
}

/// How the guest's time stamp counter and the host's clock belong together.
#[derive(Debug, Deserialize)]
struct Clock {
    /// `CLOCK_MONOTONIC` at the phase named `process-start`.
    process_start_ns: u64,
    tsc_khz: u64,
    /// The guest's time stamp counter at the moment `reference_ns`.
    reference_guest_tsc: u64,
    reference_ns: u64,
}

impl Clock {
    fn monotonic_ns(&self, guest_tsc: u64) -> i128 {
        let ticks = i128::from(guest_tsc) - i128::from(self.reference_guest_tsc);
        i128::from(self.reference_ns) + ticks * 1_000_000 / i128::from(self.tsc_khz)
    }
}

/// One start: moments in milliseconds since the exec of `bulkhead run`.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) moments: Vec<(String, f64)>,
    pub(crate) first_instruction_ms: f64,
    pub(crate) memory: Memory,
}

impl Timeline {
    /// Puts what the runtime saw and what the container saw on one axis, which
    /// begins just before the runtime is executed.
    pub(crate) fn sample(
        self,
        exec_ns: u64,
        first_instruction_tsc: u64,
        memory: Memory,
    ) -> anyhow::Result<Sample> {
        let until_start = self.clock.process_start_ns.checked_sub(exec_ns);
        let until_start = until_start.context("the runtime started before it was executed")?;
        let since_exec = self.clock.monotonic_ns(first_instruction_tsc) - i128::from(exec_ns);
        let moments = self
            .phases
            .into_iter()
            .map(|p| (p.name, p.ms + milliseconds(until_start.into())));
        Ok(Sample {
            moments: moments.collect(),
            first_instruction_ms: milliseconds(since_exec),
            memory,
        })
    }
}

#[allow(clippy::cast_precision_loss)]
fn milliseconds(ns: i128) -> f64 {
    ns as f64 / 1e6
}
