//! Figures that are counted in instructions, and the same on any machine.
//!
//! The emulated host's clock advances a nanosecond with each instruction
//! (docs/emulated-hosts.md), and jumps while it waits for real I/O: nothing may
//! be printed before the last sample is taken.

mod budgets;
mod report;

use std::path::Path;
use std::time::Duration;

use crate::bundle::{self, Bundle};
use crate::error::Error;
use crate::memory::Memory;
use crate::pod::{Pod, Runtime};
use crate::watch::Watch;

pub use crate::bundle::Size;
pub use budgets::{BudgetError, Budgets, Comparison, Row, Verdict};
pub use report::{Figures, Phase, Report};

/// As little as others are measured with.
pub const SMALL: Size = Size {
    vcpus: 1,
    memory_mib: 128,
};

/// What a container might really have. The emulated host then needs as many
/// CPUs: vCPUs that wait for each other would wait for its scheduler instead.
pub const LARGE: Size = Size {
    vcpus: 4,
    memory_mib: 2048,
};

/// The host's time, of which a start takes a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a pod beside another one is measured: chance decides over some pages.
const FURTHER_PODS: usize = 3;

/// The phase that ends with the container's first instruction.
const FIRST_INSTRUCTION: &str = "first-instruction";

/// One container from its start to its end, in milliseconds.
#[derive(Debug, Clone)]
struct Sample {
    /// Since the exec of `bulkhead run`; the last is the container's first
    /// instruction.
    moments: Vec<(String, f64)>,
    /// Exec of `bulkhead exec` to its process's first instruction.
    exec_ms: f64,
    /// The container's exit to the return of `bulkhead run`.
    teardown_ms: f64,
    memory: Memory,
}

/// Measures `runs` starts with the installation in `dist`, keeping bundle and
/// state in `directory`, which should be in memory.
pub fn measure(dist: &Path, directory: &Path, size: Size, runs: usize) -> Result<Figures, Error> {
    let bulkhead = dist.join("bulkhead");
    let runtime = Runtime::new(&bulkhead, directory, &Watch::new(PATIENCE, None))?.with_timeline();
    let bundle = Bundle::new(&bulkhead, directory.join("bundle"), bundle::WAIT, size)?;
    // The first start in a fresh host finds cold caches (4.5 % slower).
    sample(&runtime, &bundle, "warm-up")?;
    let samples = (0..runs)
        .map(|n| sample(&runtime, &bundle, &format!("run-{n}")))
        .collect::<Result<Vec<_>, _>>()?;
    let further_pods_kib = (0..FURTHER_PODS)
        .map(|n| further_pod_kib(&runtime, &bundle, n))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Figures::of(size, &samples, &further_pods_kib))
}

impl Sample {
    fn first_instruction_ms(&self) -> Option<f64> {
        self.moments.last().map(|(_, ms)| *ms)
    }
}

fn sample(runtime: &Runtime, bundle: &Bundle, id: &str) -> Result<Sample, Error> {
    let (mut pod, start) = Pod::start(runtime, bundle, id)?;
    let memory = pod.memory()?;
    let exec = pod.exec()?;
    let end = pod.end()?;
    let timeline = pod.timeline()?;
    let clock = timeline.clock.ok_or(Error::NoClock)?;
    let mut moments = timeline.moments_since(&clock, start.exec_ns);
    // The container's own word: the runtime learns of it a little later.
    moments.retain(|(name, _)| name != FIRST_INSTRUCTION);
    let first_instruction = clock.ms_from_host(start.exec_ns, start.first_instruction.tsc);
    moments.push((FIRST_INSTRUCTION.into(), first_instruction));
    Ok(Sample {
        moments,
        exec_ms: clock.ms_from_host(exec.exec_ns, exec.first_instruction.tsc),
        teardown_ms: clock.ms_to_host(end.exit.tsc, end.returned_ns),
        memory,
    })
}

/// What the pages of an idle pod's processes cost that it does not share with
/// another one: the memory of two pods less that of one.
fn further_pod_kib(runtime: &Runtime, bundle: &Bundle, n: usize) -> Result<u64, Error> {
    let (mut first, _) = Pod::start(runtime, bundle, &format!("first-pod-{n}"))?;
    let alone = first.memory()?;
    let (mut second, _) = Pod::start(runtime, bundle, &format!("further-pod-{n}"))?;
    let both = first.memory()?.pod + second.memory()?.pod;
    first.end()?;
    second.end()?;
    Ok(both.saturating_sub(alone.pod))
}
