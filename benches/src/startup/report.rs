//! What is printed: medians, with their spread.

use std::fmt;

use serde::Serialize;

use crate::sample::Sample;

/// The result of a run; its keys are relied on by other tools.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Exec of `bulkhead run` to the container's first instruction, median.
    first_instruction_virtual_ms: f64,
    /// The fastest and the slowest start.
    first_instruction_virtual_ms_range: [f64; 2],
    /// Moments on the way there, medians, each with its distance to the last.
    phases: Vec<Phase>,
    /// Proportional set size of all host processes of an idle pod, guest
    /// memory included, median.
    pss_kib: u64,
    /// The guest's part of that, median.
    guest_pss_kib: u64,
    runs: usize,
}

#[derive(Debug, Serialize)]
struct Phase {
    name: String,
    /// Since the exec.
    at_virtual_ms: f64,
    /// Since the phase before.
    virtual_ms: f64,
}

impl Report {
    /// `None` without samples.
    pub(crate) fn of(samples: &[Sample]) -> Option<Self> {
        let first = sorted(samples.iter().map(|sample| sample.first_instruction_ms));
        let (fastest, slowest) = (*first.first()?, *first.last()?);
        let first_instruction_virtual_ms = median(&first);
        let mut moments: Vec<_> = samples[0]
            .moments
            .iter()
            .map(|(name, _)| (name.clone(), moment(samples, name)))
            .collect();
        // The runtime learns of it a little after the container does.
        moments.retain(|(name, _)| name != FIRST_INSTRUCTION);
        moments.push((FIRST_INSTRUCTION.into(), first_instruction_virtual_ms));
        Some(Self {
            first_instruction_virtual_ms,
            first_instruction_virtual_ms_range: [fastest, slowest],
            phases: phases(moments),
            pss_kib: median_kib(samples.iter().map(|sample| sample.memory.pod)),
            guest_pss_kib: median_kib(samples.iter().map(|sample| sample.memory.guest)),
            runs: samples.len(),
        })
    }
}

const FIRST_INSTRUCTION: &str = "first-instruction";

fn phases(moments: Vec<(String, f64)>) -> Vec<Phase> {
    let mut before = 0.0;
    let phase = |(name, at_virtual_ms)| {
        let virtual_ms = at_virtual_ms - before;
        before = at_virtual_ms;
        Phase {
            name,
            at_virtual_ms,
            virtual_ms,
        }
    };
    moments.into_iter().map(phase).collect()
}

fn moment(samples: &[Sample], name: &str) -> f64 {
    let of_that_name = |sample: &Sample| {
        sample
            .moments
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, ms)| *ms)
    };
    median(&sorted(samples.iter().filter_map(of_that_name)))
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median_kib(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// The middle one of sorted values; of two middle ones, the greater.
fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [fastest, slowest] = self.first_instruction_virtual_ms_range;
        writeln!(f, "{:<24}{:>12}{:>12}", "phase", "ends at", "takes")?;
        for phase in &self.phases {
            writeln!(
                f,
                "{:<24}{:>12.3}{:>12.3}",
                phase.name, phase.at_virtual_ms, phase.virtual_ms
            )?;
        }
        writeln!(f, "virtual milliseconds, medians of {} starts", self.runs)?;
        writeln!(
            f,
            "first instruction       {:.3} ({fastest:.3} to {slowest:.3})",
            self.first_instruction_virtual_ms
        )?;
        writeln!(
            f,
            "memory of an idle pod   {} KiB (PSS), {} KiB of it the guest's",
            self.pss_kib, self.guest_pss_kib
        )
    }
}
