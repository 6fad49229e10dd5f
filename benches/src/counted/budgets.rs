//! The agreed figures, and how a report compares with them.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Deserialize;

use super::{Figures, Report};

/// How much more than its budget a figure may be, as a fraction of it.
const TOLERANCE: f64 = 0.03;

/// How many milliseconds more any duration may be: what a start loses when the
/// agent's wake-up, or a timer, falls badly.
const TOLERANCE_MS: f64 = 1.2;

/// What stands at the top of the file.
const HEADER: &str = "\
# The agreed figures of `cargo xtask bench startup`: durations in virtual milliseconds,
# memory in KiB. `cargo xtask test` fails when one is exceeded by more than 3 % (and by
# more than 1.2 ms) in every start (docs/bench.md).
#
# To agree on others, run `cargo xtask bench startup --update-budgets`, look at what
# changed, and commit it together with what changed it.
";

/// The agreed figures (`benches/budgets.toml`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    small: Budget,
    large: Budget,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    first_instruction_virtual_ms: f64,
    exec_virtual_ms: f64,
    teardown_virtual_ms: f64,
    pss_kib: f64,
    pss_kib_further_pod: f64,
    phases_virtual_ms: BTreeMap<String, f64>,
}

/// The file of budgets is none.
#[derive(Debug, thiserror::Error)]
#[error("these are no budgets")]
pub struct BudgetError(#[from] toml::de::Error);

/// How the figures of a report compare with the budgets.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// A row for each figure that has been measured or agreed on.
    pub rows: Vec<Row>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Size of the microVM and name of the figure.
    pub name: String,
    /// What was agreed, if anything.
    pub budget: Option<f64>,
    /// What was measured, if anything.
    pub measured: Option<f64>,
    /// What follows.
    pub verdict: Verdict,
}

/// What follows from a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// About as agreed.
    Kept,
    /// More than agreed, but not in every start, or a neighbour takes less by as
    /// much: chance decides.
    Unclear,
    /// So much better that the budget should be lowered.
    Better,
    /// More than agreed.
    Exceeded,
    /// Agreed on, and not measured.
    NotMeasured,
    /// Measured, and not agreed on.
    NoBudget,
}

impl Verdict {
    /// Whether the figure is not as it should be.
    pub fn is_failure(self) -> bool {
        match self {
            Self::Kept | Self::Unclear | Self::Better => false,
            Self::Exceeded | Self::NotMeasured | Self::NoBudget => true,
        }
    }
}

/// A median, and the least of its samples.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Figure {
    Ms { median: f64, least: f64 },
    Kib { median: f64, least: f64 },
}

impl Figure {
    #[allow(clippy::cast_precision_loss)]
    fn kib(median: u64, least: u64) -> Self {
        Self::Kib {
            median: median as f64,
            least: least as f64,
        }
    }

    fn median(self) -> f64 {
        match self {
            Self::Ms { median, .. } | Self::Kib { median, .. } => median,
        }
    }

    fn least(self) -> f64 {
        match self {
            Self::Ms { least, .. } | Self::Kib { least, .. } => least,
        }
    }

    fn tolerance(self, budget: f64) -> f64 {
        match self {
            Self::Ms { .. } => (budget * TOLERANCE).max(TOLERANCE_MS),
            Self::Kib { .. } => budget * TOLERANCE,
        }
    }

    fn verdict(self, budget: f64) -> Verdict {
        let excess = self.median() - budget;
        let tolerance = self.tolerance(budget);
        // Not a number is no good figure either.
        if excess.is_nan() || excess > tolerance {
            if self.least() <= budget + tolerance {
                Verdict::Unclear
            } else {
                Verdict::Exceeded
            }
        } else if excess < -tolerance {
            Verdict::Better
        } else {
            Verdict::Kept
        }
    }
}

impl Budgets {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, BudgetError> {
        Ok(toml::from_str(text)?)
    }

    /// The file's text for what a report has measured.
    pub fn text_for(report: &Report) -> String {
        let mut text = String::from(HEADER);
        for (size, figures) in [("small", &report.small), ("large", &report.large)] {
            let _ = write!(text, "\n[{size}]\n{}", Lines(figures));
            let _ = writeln!(text, "\n[{size}.phases_virtual_ms]");
            for phase in &figures.phases {
                let _ = writeln!(text, "{} = {:.3}", phase.name, phase.virtual_ms);
            }
        }
        text
    }

    /// Compares a report with the budgets.
    pub fn compare(&self, report: &Report) -> Comparison {
        let mut rows = self.small.compare("small", &report.small);
        rows.extend(self.large.compare("large", &report.large));
        Comparison { rows }
    }
}

/// The figures of a size that are no phases, as lines of the file.
struct Lines<'f>(&'f Figures);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, figure) in totals(self.0) {
            match figure {
                Figure::Ms { median, .. } => writeln!(f, "{name} = {median:.3}")?,
                Figure::Kib { median, .. } => writeln!(f, "{name} = {median:.1}")?,
            }
        }
        Ok(())
    }
}

fn totals(figures: &Figures) -> [(&'static str, Figure); 5] {
    let ms = |median, [least, _]: [f64; 2]| Figure::Ms { median, least };
    [
        (
            "first_instruction_virtual_ms",
            ms(
                figures.first_instruction_virtual_ms,
                figures.first_instruction_virtual_ms_range,
            ),
        ),
        (
            "exec_virtual_ms",
            ms(figures.exec_virtual_ms, figures.exec_virtual_ms_range),
        ),
        (
            "teardown_virtual_ms",
            ms(
                figures.teardown_virtual_ms,
                figures.teardown_virtual_ms_range,
            ),
        ),
        (
            "pss_kib",
            Figure::kib(figures.pss_kib, figures.pss_kib_range[0]),
        ),
        (
            "pss_kib_further_pod",
            Figure::kib(
                figures.pss_kib_further_pod,
                figures.pss_kib_further_pod_range[0],
            ),
        ),
    ]
}

impl Budget {
    fn compare(&self, size: &str, figures: &Figures) -> Vec<Row> {
        let mut phases: Vec<_> = figures
            .phases
            .iter()
            .map(|phase| {
                let budget = self.phases_virtual_ms.get(&phase.name).copied();
                let name = format!("{size}: phase {}", phase.name);
                let figure = Figure::Ms {
                    median: phase.virtual_ms,
                    least: phase.virtual_ms_range[0],
                };
                Row::of(name, budget, figure)
            })
            .collect();
        excuse_moved(&mut phases);
        let is_measured = |name: &str| figures.phases.iter().any(|phase| phase.name == name);
        let missing = self.phases_virtual_ms.iter();
        let missing = missing.filter(|(name, _)| !is_measured(name));
        let missing = missing.map(|(name, budget)| Row {
            name: format!("{size}: phase {name}"),
            budget: Some(*budget),
            measured: None,
            verdict: Verdict::NotMeasured,
        });
        let budgets = [
            self.first_instruction_virtual_ms,
            self.exec_virtual_ms,
            self.teardown_virtual_ms,
            self.pss_kib,
            self.pss_kib_further_pod,
        ];
        let totals = totals(figures).into_iter().zip(budgets);
        let totals = totals.map(|((name, figure), budget)| {
            Row::of(format!("{size}: {name}"), Some(budget), figure)
        });
        phases.into_iter().chain(missing).chain(totals).collect()
    }
}

/// Excuses phases whose excess a neighbour has less: on one CPU, what runs
/// beside a start falls into the one or the other.
fn excuse_moved(phases: &mut [Row]) {
    let excess: Vec<_> = phases.iter().map(Row::excess).collect();
    for (n, row) in phases.iter_mut().enumerate() {
        let before = n.checked_sub(1).and_then(|n| excess.get(n));
        let is_moved = [before, excess.get(n + 1)]
            .into_iter()
            .flatten()
            .any(|neighbour| excess[n] + neighbour <= TOLERANCE_MS);
        if row.verdict == Verdict::Exceeded && is_moved {
            row.verdict = Verdict::Unclear;
        }
    }
}

impl Row {
    fn excess(&self) -> f64 {
        match (self.measured, self.budget) {
            (Some(measured), Some(budget)) => measured - budget,
            _ => 0.0,
        }
    }

    fn of(name: String, budget: Option<f64>, figure: Figure) -> Self {
        Self {
            name,
            budget,
            measured: Some(figure.median()),
            verdict: budget.map_or(Verdict::NoBudget, |budget| figure.verdict(budget)),
        }
    }
}

impl Comparison {
    /// Whether a figure is not as it should be.
    pub fn is_failure(&self) -> bool {
        self.has(Verdict::is_failure)
    }

    fn has(&self, what: impl Fn(Verdict) -> bool) -> bool {
        self.rows.iter().any(|row| what(row.verdict))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<42}{:>12}{:>12}{:>9}",
            "figure", "budget", "measured", "%"
        )?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        if self.has(|verdict| verdict == Verdict::Better) {
            writeln!(
                f,
                "better than agreed: lower the budgets with \
                 `cargo xtask bench startup --update-budgets`"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
        let difference = match (self.budget, self.measured) {
            (Some(budget), Some(measured)) if budget != 0.0 => {
                format!("{:+.1}", (measured / budget - 1.0) * 100.0)
            }
            _ => "-".into(),
        };
        let remark = match self.verdict {
            Verdict::Kept => "",
            Verdict::Unclear => "  unclear: chance",
            Verdict::Better => "  better",
            Verdict::Exceeded => "  EXCEEDED",
            Verdict::NotMeasured => "  NOT MEASURED",
            Verdict::NoBudget => "  NO BUDGET",
        };
        write!(
            f,
            "{:<42}{:>12}{:>12}{difference:>9}{remark}",
            self.name,
            number(self.budget),
            number(self.measured)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::Phase;
    use super::*;
    use crate::bundle::Size;

    fn figures() -> Figures {
        let phase = |name: &str, at_virtual_ms, virtual_ms| Phase {
            name: name.into(),
            at_virtual_ms,
            virtual_ms,
            virtual_ms_range: [virtual_ms, virtual_ms],
        };
        Figures {
            size: Size {
                vcpus: 1,
                memory_mib: 128,
            },
            first_instruction_virtual_ms: 100.0,
            first_instruction_virtual_ms_range: [100.0, 101.0],
            phases: vec![
                phase("process-start", 0.5, 0.5),
                phase("first-instruction", 100.0, 99.5),
            ],
            exec_virtual_ms: 80.0,
            exec_virtual_ms_range: [80.0, 80.0],
            teardown_virtual_ms: 15.0,
            teardown_virtual_ms_range: [15.0, 15.0],
            pss_kib: 28_000,
            pss_kib_range: [28_000, 28_000],
            guest_pss_kib: 20_000,
            pss_kib_further_pod: 20_000,
            pss_kib_further_pod_range: [20_000, 20_000],
        }
    }

    fn report() -> Report {
        Report {
            small: figures(),
            large: figures(),
            runs: 3,
        }
    }

    fn budgets() -> Budgets {
        Budgets::parse(&Budgets::text_for(&report())).unwrap()
    }

    /// What the comparison says of a figure of the small size, when a report is
    /// changed.
    fn verdict(figure: &str, change: impl FnOnce(&mut Figures)) -> Verdict {
        let mut report = report();
        change(&mut report.small);
        let comparison = budgets().compare(&report);
        let name = format!("small: {figure}");
        let row = comparison.rows.iter().find(|row| row.name == name).unwrap();
        assert_eq!(comparison.is_failure(), row.verdict.is_failure());
        row.verdict
    }

    #[test]
    fn what_was_measured_is_within_its_own_budgets() {
        let comparison = budgets().compare(&report());
        assert!(
            comparison
                .rows
                .iter()
                .all(|row| row.verdict == Verdict::Kept)
        );
        assert_eq!(comparison.rows.len(), 14);
    }

    fn exec(f: &mut Figures, ms: f64, least: f64) {
        f.exec_virtual_ms = ms;
        f.exec_virtual_ms_range = [least, ms];
    }

    fn phase(f: &mut Figures, n: usize, ms: f64) {
        f.phases[n].virtual_ms = ms;
        f.phases[n].virtual_ms_range = [ms, ms];
    }

    #[test]
    fn four_percent_more_are_too_much_and_two_are_not() {
        let exec = |ms| verdict("exec_virtual_ms", |f| exec(f, ms, ms));
        assert_eq!(exec(80.0 * 1.02), Verdict::Kept);
        assert_eq!(exec(80.0 * 1.04), Verdict::Exceeded);
        let pss = |kib| {
            verdict("pss_kib", |f| {
                f.pss_kib = kib;
                f.pss_kib_range = [kib, kib];
            })
        };
        assert_eq!(pss(28_000 * 102 / 100), Verdict::Kept);
        assert_eq!(pss(28_000 * 104 / 100), Verdict::Exceeded);
        let last = |ms| verdict("phase first-instruction", |f| phase(f, 1, ms));
        assert_eq!(last(99.5 * 1.04), Verdict::Exceeded);
    }

    #[test]
    fn excess_is_unclear_where_a_start_kept_the_budget() {
        let exec = |least| verdict("exec_virtual_ms", |f| exec(f, 80.0 * 1.04, least));
        assert_eq!(exec(80.0 * 1.02), Verdict::Unclear);
        assert_eq!(exec(80.0 * 1.035), Verdict::Exceeded);
    }

    #[test]
    fn short_phase_may_take_a_little_longer() {
        let first = |ms| verdict("phase process-start", |f| phase(f, 0, ms));
        assert_eq!(first(1.6), Verdict::Kept);
        assert_eq!(first(1.8), Verdict::Exceeded);
    }

    #[test]
    fn time_that_moved_to_a_neighbour_is_unclear() {
        let moved = |f: &mut Figures, by| {
            phase(f, 0, 0.5 + by);
            phase(f, 1, 99.5 - 3.0);
        };
        let name = "phase process-start";
        assert_eq!(verdict(name, |f| moved(f, 4.1)), Verdict::Unclear);
        assert_eq!(verdict(name, |f| moved(f, 4.3)), Verdict::Exceeded);
    }

    #[test]
    fn phases_missing_on_either_side_are_failures() {
        let name = "phase process-start";
        let mut report = report();
        report.small.phases.remove(0);
        let rows = budgets().compare(&report).rows;
        let row = rows.iter().find(|row| row.name.ends_with(name)).unwrap();
        assert_eq!(row.verdict, Verdict::NotMeasured);
        let named = |f: &mut Figures| f.phases[0].name = "new".into();
        assert_eq!(verdict("phase new", named), Verdict::NoBudget);
    }

    #[test]
    fn nonsense_is_no_good_figure() {
        let nan = |f: &mut Figures| {
            f.teardown_virtual_ms = f64::NAN;
            f.teardown_virtual_ms_range = [f64::NAN; 2];
        };
        assert_eq!(verdict("teardown_virtual_ms", nan), Verdict::Exceeded);
    }

    #[test]
    fn much_better_comes_with_advice() {
        let mut report = report();
        assert!(!budgets().compare(&report).to_string().contains("lower"));
        report.large.teardown_virtual_ms = 10.0;
        let comparison = budgets().compare(&report);
        assert!(!comparison.is_failure());
        assert!(comparison.to_string().contains("lower the budgets"));
    }
}
