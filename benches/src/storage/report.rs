//! What is reported: each workload under both runtimes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::work::WORKLOADS;

/// The result; its keys are relied on by other tools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// In the order in which they ran.
    pub workloads: Vec<Row>,
}

/// A workload's durations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was done.
    pub name: String,
    /// Under the runtime that Bulkhead is compared with.
    pub reference_virtual_ms: f64,
    /// In a microVM.
    pub bulkhead_virtual_ms: f64,
    /// The latter in terms of the former.
    pub ratio: f64,
    /// What the ratio is to be at most.
    pub goal: f64,
}

impl Report {
    /// From the nanoseconds of each workload.
    pub(super) fn new(reference: &BTreeMap<String, u64>, bulkhead: &BTreeMap<String, u64>) -> Self {
        let ms = |durations: &BTreeMap<String, u64>, name: &str| {
            let duration = Duration::from_nanos(*durations.get(name)?);
            Some(duration.as_secs_f64() * 1e3)
        };
        let rows = WORKLOADS.iter().filter_map(|workload| {
            let reference_virtual_ms = ms(reference, workload.name)?;
            let bulkhead_virtual_ms = ms(bulkhead, workload.name)?;
            Some(Row {
                name: workload.name.into(),
                reference_virtual_ms,
                bulkhead_virtual_ms,
                ratio: bulkhead_virtual_ms / reference_virtual_ms,
                goal: workload.goal,
            })
        });
        Self {
            workloads: rows.collect(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:36}{:>12}{:>12}{:>8}{:>8}",
            "virtual ms", "reference", "bulkhead", "ratio", "goal"
        )?;
        for row in &self.workloads {
            let missed = if row.ratio > row.goal { "  missed" } else { "" };
            writeln!(
                f,
                "{:36}{:12.2}{:12.2}{:8.2}{:8.1}{missed}",
                row.name, row.reference_virtual_ms, row.bulkhead_virtual_ms, row.ratio, row.goal
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_misses_its_goal_is_marked() {
        let durations = |factor: u64| -> BTreeMap<String, u64> {
            let durations = WORKLOADS.iter().zip(1..);
            durations
                .map(|(workload, n)| (workload.name.to_owned(), n * factor))
                .collect()
        };
        let report = Report::new(&durations(1_000_000), &durations(2_000_000));
        assert_eq!(report.workloads.len(), WORKLOADS.len());
        let text = report.to_string();
        let line = text.lines().find(|l| l.starts_with("read them again"));
        assert!(line.unwrap().ends_with("2.00     1.5  missed"), "{text}");
        let line = text.lines().find(|l| l.starts_with("git status again"));
        assert!(line.unwrap().ends_with("2.00     3.0"), "{text}");
    }
}
