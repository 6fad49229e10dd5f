//! What is reported: medians, with their spread.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Sample;
use crate::bundle::Size;
use crate::memory::Memory;

/// The result of a run; its keys are relied on by other tools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// One vCPU and little memory.
    #[serde(flatten)]
    pub small: Figures,
    /// Several vCPUs and more memory.
    pub large: Figures,
    /// How many starts of each size were measured.
    pub runs: usize,
}

/// The figures of one size of microVM. Times are virtual milliseconds,
/// medians; a range has the least and the greatest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Of the microVM.
    #[serde(flatten)]
    pub size: Size,
    /// Exec of `bulkhead run` to the container's first instruction.
    pub first_instruction_virtual_ms: f64,
    /// The fastest and the slowest.
    pub first_instruction_virtual_ms_range: [f64; 2],
    /// Moments on the way there.
    pub phases: Vec<Phase>,
    /// Exec of `bulkhead exec` to the first instruction of its process in a
    /// running container.
    pub exec_virtual_ms: f64,
    /// The fastest and the slowest.
    pub exec_virtual_ms_range: [f64; 2],
    /// The container's exit to the return of `bulkhead run`.
    pub teardown_virtual_ms: f64,
    /// The fastest and the slowest.
    pub teardown_virtual_ms_range: [f64; 2],
    /// Proportional set size of all host processes of an idle pod, guest
    /// memory included.
    pub pss_kib: u64,
    /// The least and the greatest.
    pub pss_kib_range: [u64; 2],
    /// The guest's part of that.
    pub guest_pss_kib: u64,
    /// What another pod adds to that: the sum of two pods less that of one.
    pub pss_kib_further_pod: u64,
    /// The least and the greatest.
    pub pss_kib_further_pod_range: [u64; 2],
}

/// A moment on the way to the container's first instruction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// What has happened then (docs/startup.md).
    pub name: String,
    /// Since the exec.
    pub at_virtual_ms: f64,
    /// Since the phase before.
    pub virtual_ms: f64,
    /// The shortest and the longest.
    pub virtual_ms_range: [f64; 2],
}

impl Figures {
    pub(super) fn of(size: Size, samples: &[Sample], further_pods_kib: &[u64]) -> Self {
        let (first, first_range) = spread(samples, Sample::first_instruction_ms);
        let (exec, exec_range) = spread(samples, |s| Some(s.exec_ms));
        let (teardown, teardown_range) = spread(samples, |s| Some(s.teardown_ms));
        let of_samples =
            |of: fn(Memory) -> u64| spread_kib(samples.iter().map(|sample| of(sample.memory)));
        let (pss, pss_range) = of_samples(|memory| memory.pod);
        let (further, further_range) = spread_kib(further_pods_kib.iter().copied());
        Self {
            size,
            first_instruction_virtual_ms: first,
            first_instruction_virtual_ms_range: first_range,
            phases: phases(samples),
            exec_virtual_ms: exec,
            exec_virtual_ms_range: exec_range,
            teardown_virtual_ms: teardown,
            teardown_virtual_ms_range: teardown_range,
            pss_kib: pss,
            pss_kib_range: pss_range,
            guest_pss_kib: of_samples(|memory| memory.guest).0,
            pss_kib_further_pod: further,
            pss_kib_further_pod_range: further_range,
        }
    }
}

/// The phases of the first sample, which all have.
fn phases(samples: &[Sample]) -> Vec<Phase> {
    let names = samples.first().into_iter().flat_map(|s| &s.moments);
    let mut before = 0.0;
    let phase = |(n, (name, _)): (usize, &(String, f64))| {
        let (at_virtual_ms, _) = spread(samples, |s| moment(s, n));
        let (_, virtual_ms_range) = spread(samples, |s| {
            let start = n.checked_sub(1).map_or(Some(0.0), |n| moment(s, n));
            Some(moment(s, n)? - start?)
        });
        let virtual_ms = at_virtual_ms - before;
        before = at_virtual_ms;
        Phase {
            name: name.clone(),
            at_virtual_ms,
            virtual_ms,
            virtual_ms_range,
        }
    };
    names.enumerate().map(phase).collect()
}

fn moment(sample: &Sample, n: usize) -> Option<f64> {
    sample.moments.get(n).map(|(_, ms)| *ms)
}

/// The median (of two middle values the greater) and the range.
fn spread(samples: &[Sample], of: impl Fn(&Sample) -> Option<f64>) -> (f64, [f64; 2]) {
    let mut values: Vec<_> = samples.iter().filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    let at = |n: usize| values.get(n).copied().unwrap_or(f64::NAN);
    let last = values.len().saturating_sub(1);
    (at(values.len() / 2), [at(0), at(last)])
}

fn spread_kib(values: impl Iterator<Item = u64>) -> (u64, [u64; 2]) {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    let at = |n: usize| values.get(n).copied().unwrap_or(0);
    let last = values.len().saturating_sub(1);
    (at(values.len() / 2), [at(0), at(last)])
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "virtual milliseconds, medians of {} starts\n\n{}\n{}",
            self.runs, self.small, self.large
        )
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { vcpus, memory_mib } = self.size;
        writeln!(f, "{vcpus} vCPU, {memory_mib} MiB")?;
        writeln!(f, "{:<24}{:>12}{:>12}", "phase", "ends at", "takes")?;
        for phase in &self.phases {
            writeln!(
                f,
                "{:<24}{:>12.3}{:>12.3}",
                phase.name, phase.at_virtual_ms, phase.virtual_ms
            )?;
        }
        let times = [
            (
                "first instruction",
                self.first_instruction_virtual_ms,
                self.first_instruction_virtual_ms_range,
            ),
            ("exec", self.exec_virtual_ms, self.exec_virtual_ms_range),
            (
                "teardown",
                self.teardown_virtual_ms,
                self.teardown_virtual_ms_range,
            ),
        ];
        for (name, median, [least, greatest]) in times {
            writeln!(f, "{name:<24}{median:.3} ({least:.3} to {greatest:.3})")?;
        }
        writeln!(
            f,
            "{:<24}{} KiB (PSS), {} KiB of it the guest's; a further one {} KiB",
            "memory of an idle pod", self.pss_kib, self.guest_pss_kib, self.pss_kib_further_pod
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(firsts: &[f64]) -> Figures {
        let sample = |&first: &f64| Sample {
            moments: vec![
                ("kvm-ready".into(), first / 10.0),
                ("first-instruction".into(), first),
            ],
            exec_ms: first / 10.0,
            teardown_ms: 1.0,
            memory: Memory { pod: 20, guest: 10 },
        };
        let samples: Vec<_> = firsts.iter().map(sample).collect();
        Figures::of(super::super::SMALL, &samples, &[7])
    }

    #[test]
    fn phases_are_told_with_their_spread() {
        let figures = figures(&[30.0, 10.0, 20.0]);
        let phase = |name: &str, at_virtual_ms, virtual_ms, virtual_ms_range| Phase {
            name: name.into(),
            at_virtual_ms,
            virtual_ms,
            virtual_ms_range,
        };
        let expected = [
            phase("kvm-ready", 2.0, 2.0, [1.0, 3.0]),
            phase("first-instruction", 20.0, 18.0, [9.0, 27.0]),
        ];
        assert_eq!(figures.phases, expected);
        let range = figures.first_instruction_virtual_ms_range;
        assert_eq!(range.map(|ms| ms.to_string()), ["10", "30"]);
    }

    #[test]
    fn keys_that_tools_rely_on_are_there() {
        let report = Report {
            small: figures(&[1.0]),
            large: figures(&[2.0]),
            runs: 1,
        };
        let json = serde_json::to_value(&report).unwrap();
        for key in [
            "first_instruction_virtual_ms",
            "first_instruction_virtual_ms_range",
            "phases",
            "exec_virtual_ms",
            "teardown_virtual_ms",
            "pss_kib",
            "guest_pss_kib",
            "pss_kib_further_pod",
        ] {
            assert!(!json[key].is_null(), "{key}");
            assert!(!json["large"][key].is_null(), "large.{key}");
        }
        assert_eq!(json["runs"], 1);
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    }
}
