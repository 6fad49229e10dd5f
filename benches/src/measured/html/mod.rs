//! The report as one HTML file that needs nothing else.

// Counts, and places on a screen.
#![allow(clippy::cast_precision_loss)]

mod plots;
mod scale;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::report::{Report, SubjectReport};
use super::text::title;
use plots::Row;
use scale::number;

const STYLE: &str = include_str!("style.css");

/// The whole file.
pub(super) fn page(report: &Report) -> String {
    let heading = "How long containers take to start";
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (heading) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (heading) }
                (introduction(report))
                (problems(report))
                (verdicts(report))
                (timelines(report))
                (latencies(report))
                (memory(report))
                (concurrency(report))
                (density(report))
                (setup(report))
            }
        }
    };
    page.into_string()
}

fn introduction(report: &Report) -> Markup {
    let machine = &report.machine;
    html! {
        p.faint {
            (machine.cpu_model) ", CPUs: " (machine.cpus) ", " (machine.memory_mib) " MiB, "
            (machine.kernel)
            @if machine.is_virtual { ", itself a virtual machine" }
            ". " (report.runs) " runs of each, taken in turn. MicroVMs have "
            (report.microvm.vcpus) " vCPU and " (report.microvm.memory_mib) " MiB."
        }
    }
}

fn problems(report: &Report) -> Markup {
    html! {
        @if let Some(signal) = report.interrupted_by_signal {
            p.bad { "Interrupted by signal " (signal) ": this is what had been measured." }
        }
        @for subject in &report.subjects {
            @if let Some(failure) = &subject.failure {
                p.bad {
                    b { (subject.name) } " failed (" (failure.during) "): " (failure.message)
                }
            }
        }
    }
}

fn verdicts(report: &Report) -> Markup {
    html! {
        @if !report.comparisons.is_empty() {
            h2 { "What can be told apart" }
            ul {
                @for comparison in &report.comparisons {
                    li.faint[comparison.told_apart != Some(true)] { (comparison.to_string()) }
                }
            }
        }
    }
}

fn timelines(report: &Report) -> Markup {
    html! {
        @for subject in report.subjects.iter().filter(|s| !s.phases.is_empty()) {
            h2 { "Where the time of a start goes: " (subject.name) }
            p.faint {
                "Medians, since the runtime's exec. A bar ends when what it is named for has \
                 happened."
            }
            div.scroll { (plots::timeline(subject)) (phase_table(subject)) }
        }
    }
}

fn phase_table(subject: &SubjectReport) -> Markup {
    let starts = std::iter::once(0.0).chain(subject.phases.iter().map(|p| p.at_ms));
    html! {
        table {
            tr { th { "phase" } th { "on" } th { "ends at, ms" } th { "takes, ms" } }
            @for (phase, start) in subject.phases.iter().zip(starts) {
                tr {
                    td { (phase.name) } td { (phase.on) }
                    td { (number(phase.at_ms)) } td { (number(phase.at_ms - start)) }
                }
            }
        }
    }
}

/// A figure and the subjects that have it.
fn figures(report: &Report) -> Vec<(&'static str, Vec<Row<'_>>)> {
    let subjects = report.subjects.iter().enumerate();
    let all: Vec<_> = subjects
        .map(|(n, subject)| (n, subject, subject.latency.figures()))
        .collect();
    let count = all.first().map_or(0, |(_, _, figures)| figures.len());
    let rows = |k: usize| {
        let figure = all.first().map_or("", |(_, _, figures)| figures[k].0);
        let rows = all
            .iter()
            .filter_map(|(n, subject, figures)| Some((*n, subject.name.as_str(), figures[k].1?)));
        (figure, rows.collect::<Vec<_>>())
    };
    (0..count)
        .map(rows)
        .filter(|(_, rows)| !rows.is_empty())
        .collect()
}

fn latencies(report: &Report) -> Markup {
    html! {
        @for (figure, rows) in figures(report) {
            h2 { (capitalised(title(figure))) }
            p.faint { (explanation(figure)) }
            div.scroll { (plots::distribution(&rows)) (percentiles(&rows)) }
        }
    }
}

fn percentiles(rows: &[Row<'_>]) -> Markup {
    html! {
        table {
            tr {
                th { "ms" } th { "min" } th { "median" } th { "p90" } th { "p99" } th { "max" }
                th { "95 % interval of the median" } th { "samples" }
            }
            @for (_, name, summary) in rows {
                tr {
                    td { (name) }
                    @for value in [
                        summary.min_ms, summary.median_ms, summary.p90_ms, summary.p99_ms,
                        summary.max_ms,
                    ] {
                        td { (number(value)) }
                    }
                    td {
                        @match summary.median_ci95_ms {
                            Some([low, high]) => { (number(low)) " to " (number(high)) }
                            None => "too few runs",
                        }
                    }
                    td { (summary.samples) }
                }
            }
        }
    }
}

fn explanation(figure: &str) -> &'static str {
    match figure {
        "first_instruction" => {
            "Exec of the runtime to the first instruction of the container's own process, by \
             the time stamp counter that it reads there."
        }
        "first_output" => {
            "Exec of the runtime to the first output of the container's process; for a VMM, of \
             the guest's first process."
        }
        "run" => "Exec of the runtime (the VMM) to its return; the program exits at once.",
        "exec_first_instruction" => {
            "A further process in a running container: exec of the runtime to its first \
             instruction."
        }
        "exec_first_output" => {
            "A further process in a running container: exec of the runtime to its first output."
        }
        _ => "The last output of a container that exits to the return of the runtime.",
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn memory(report: &Report) -> Markup {
    let pods = report.subjects.iter();
    let pods: Vec<_> = pods.filter_map(|s| Some((&s.name, s.idle_pod?))).collect();
    html! {
        @if !pods.is_empty() {
            h2 { "Memory of an idle pod" }
            p.faint { "Proportional set size of all its processes on the host." }
            table {
                tr { th { "KiB" } th { "all" } th { "of it the guest's" } }
                @for (name, pod) in pods {
                    tr { td { (name) } td { (pod.pss_kib) } td { (pod.guest_pss_kib) } }
                }
            }
        }
    }
}

fn names(report: &Report, has: impl Fn(&SubjectReport) -> bool) -> Vec<(usize, &str)> {
    let subjects = report.subjects.iter().enumerate();
    let subjects = subjects.filter(|(_, subject)| has(subject));
    subjects
        .map(|(n, subject)| (n, subject.name.as_str()))
        .collect()
}

/// A curve a subject, without those that have none.
fn curves(
    report: &Report,
    points: impl Fn(&SubjectReport) -> Vec<plots::Point>,
) -> Vec<(usize, &str, Vec<plots::Point>)> {
    let subjects = report.subjects.iter().enumerate();
    let curves = subjects.map(|(n, subject)| (n, subject.name.as_str(), points(subject)));
    curves.filter(|(_, _, points)| !points.is_empty()).collect()
}

fn concurrency(report: &Report) -> Markup {
    let has = |s: &SubjectReport| !s.concurrency.is_empty();
    let rates = curves(report, |s| {
        let levels = s.concurrency.iter();
        levels.map(|c| (c.at_once as f64, c.starts_per_s)).collect()
    });
    let medians = curves(report, |s| {
        let levels = s.concurrency.iter();
        levels
            .filter_map(|c| Some((c.at_once as f64, c.run.as_ref()?.median_ms)))
            .collect()
    });
    html! {
        @if !rates.is_empty() {
            h2 { "Several starts at once" }
            p.faint { "Containers (guests) that exit at once, run to their end." }
            (plots::legend(&names(report, has)))
            div.pair {
                (plots::curves(&rates, "at once", "starts per second"))
                (plots::curves(&medians, "at once", "median of start to exit, ms"))
            }
        }
    }
}

fn density(report: &Report) -> Markup {
    let has = |s: &SubjectReport| !s.density.is_empty();
    let latencies = curves(report, |s| {
        let levels = s.density.iter();
        levels
            .filter_map(|d| Some((d.running as f64, d.first_output.as_ref()?.median_ms)))
            .collect()
    });
    let memory = curves(report, |s| {
        let levels = s.density.iter();
        levels
            .map(|d| (d.running as f64, d.idle_pods.pss_kib as f64 / 1024.0))
            .collect()
    });
    html! {
        @if !latencies.is_empty() {
            h2 { "Starts beside pods that are running" }
            (plots::legend(&names(report, has)))
            div.pair {
                (plots::curves(&latencies, "idle pods", "median of start to first output, ms"))
                (plots::curves(&memory, "idle pods", "memory of all idle pods, MiB (PSS)"))
            }
        }
    }
}

fn setup(report: &Report) -> Markup {
    let machine = &report.machine;
    html! {
        h2 { "How it was measured" }
        pre { code { (report.command) } }
        p {
            "Took " (number(report.took_s)) " s. Virtualization: "
            (machine.virtualization.as_deref().unwrap_or("none")) "."
        }
        @for subject in &report.subjects {
            h3 { (subject.name) }
            p { (subject.version) ", " code { (subject.program.display()) } }
            @for command in &subject.commands { pre { code { (command) } } }
        }
    }
}

#[cfg(test)]
mod tests;
