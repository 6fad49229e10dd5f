//! The report for a terminal.

use std::fmt;

use super::report::{Comparison, Report, SubjectReport};
use super::stats::Summary;

/// What the figures are called in front of people.
pub(super) fn title(figure: &str) -> &'static str {
    match figure {
        "first_instruction" => "start to first instruction",
        "first_output" => "start to first output",
        "run" => "start to exit",
        "exec_first_instruction" => "exec to first instruction",
        "exec_first_output" => "exec to first output",
        _ => "teardown",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        writeln!(
            f,
            "{}, CPUs: {}, {} MiB, {}{}",
            machine.cpu_model,
            machine.cpus,
            machine.memory_mib,
            machine.kernel,
            if machine.is_virtual {
                ", itself a virtual machine"
            } else {
                ""
            }
        )?;
        writeln!(
            f,
            "microVMs of {} vCPU, {} MiB; milliseconds, {} runs of each",
            self.microvm.vcpus, self.microvm.memory_mib, self.runs
        )?;
        self.latencies(f)?;
        self.memory(f)?;
        self.concurrency(f)?;
        self.density(f)?;
        self.verdicts(f)?;
        for subject in &self.subjects {
            if let Some(failure) = &subject.failure {
                writeln!(
                    f,
                    "\n{} failed ({}): {}",
                    subject.name, failure.during, failure.message
                )?;
            }
        }
        if let Some(signal) = self.interrupted_by_signal {
            writeln!(
                f,
                "\ninterrupted by signal {signal}: this is what there was"
            )?;
        }
        Ok(())
    }
}

impl Report {
    fn latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures: Vec<_> = self.subjects.iter().map(|s| s.latency.figures()).collect();
        for n in 0..figures.first().map_or(0, |figures| figures.len()) {
            let rows = self.subjects.iter().zip(&figures);
            let rows = rows.filter_map(|(s, figures)| Some((s, figures[n].0, figures[n].1?)));
            for (i, (subject, figure, summary)) in rows.enumerate() {
                if i == 0 {
                    heading(f, title(figure))?;
                }
                row(f, &subject.name, summary)?;
            }
        }
        Ok(())
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pods = self.subjects.iter();
        let pods = pods.filter_map(|subject| Some((subject, subject.idle_pod?)));
        for (n, (subject, pod)) in pods.enumerate() {
            if n == 0 {
                writeln!(f, "\nmemory of an idle pod, KiB (PSS)")?;
            }
            let (all, guest) = (pod.pss_kib, pod.guest_pss_kib);
            writeln!(f, "  {:<20}{all:>10}, the guest's {guest}", subject.name)?;
        }
        Ok(())
    }

    fn concurrency(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let levels = |s: &'_ SubjectReport| !s.concurrency.is_empty();
        if self.subjects.iter().any(levels) {
            let (at_once, rate) = ("at once", "starts/s");
            writeln!(
                f,
                "\nstarts to exit{at_once:>16}{rate:>10}{:>10}{:>10}",
                "median", "p99"
            )?;
        }
        for subject in &self.subjects {
            for level in &subject.concurrency {
                let (median, p99) = level
                    .run
                    .as_ref()
                    .map_or((f64::NAN, f64::NAN), |run| (run.median_ms, run.p99_ms));
                writeln!(
                    f,
                    "  {:<20}{:>8}{:>10.2}{median:>10.2}{p99:>10.2}",
                    subject.name, level.at_once, level.starts_per_s
                )?;
            }
        }
        Ok(())
    }

    fn density(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subjects.iter().any(|s| !s.density.is_empty()) {
            writeln!(
                f,
                "\nstart to first output, beside{:>3}{:>10}{:>18}",
                "", "median", "idle pods, KiB"
            )?;
        }
        for subject in &self.subjects {
            for point in &subject.density {
                let median = point
                    .first_output
                    .as_ref()
                    .map_or(f64::NAN, |s| s.median_ms);
                writeln!(
                    f,
                    "  {:<20}{:>8}  {median:>10.2}{:>18}",
                    subject.name, point.running, point.idle_pods.pss_kib
                )?;
            }
        }
        Ok(())
    }

    fn verdicts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.comparisons.is_empty() {
            writeln!(f)?;
        }
        self.comparisons
            .iter()
            .try_for_each(|comparison| writeln!(f, "{comparison}"))
    }
}

fn heading(f: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
    writeln!(
        f,
        "\n{title:<28}{:>10}{:>10}{:>10}{:>10}   95 % for the median",
        "min", "median", "p90", "p99"
    )
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, summary: &Summary) -> fmt::Result {
    let interval = summary
        .median_ci95_ms
        .map_or("too few runs".into(), |[low, high]| {
            format!("{low:.2} to {high:.2}")
        });
    writeln!(
        f,
        "  {name:<26}{:>10.2}{:>10.2}{:>10.2}{:>10.2}   {interval}",
        summary.min_ms, summary.median_ms, summary.p90_ms, summary.p99_ms
    )
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, other, figure) = (&self.subject, &self.other, title(self.figure));
        match self.told_apart {
            Some(true) => {
                let (by, word) = (self.difference_ms.abs(), self.word());
                write!(f, "{figure}: {subject} is {by:.2} ms {word} than {other}")
            }
            Some(false) => write!(
                f,
                "{figure}: {subject} and {other} cannot be told apart: too much noise, or too few runs"
            ),
            None => write!(f, "{figure}: too few runs to compare {subject} and {other}"),
        }
    }
}

impl Comparison {
    fn word(&self) -> &'static str {
        if self.difference_ms < 0.0 {
            "slower"
        } else {
            "faster"
        }
    }
}
