//! The report: plain data, whose JSON docs/bench.md describes.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Plan;
use super::machine::Machine;
use super::stats::Summary;
use super::subject::Subject;
use crate::bundle::Size;
use crate::error::Error;
use crate::memory::Memory;
use crate::watch::Watch;

/// Changes when a key changes its meaning or goes.
const SCHEMA: u32 = 1;

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of these keys.
    pub schema: u32,
    /// When it began: seconds since 1970.
    pub started_unix_s: u64,
    /// How long it took.
    pub took_s: f64,
    /// As it was typed.
    pub command: String,
    /// The machine.
    pub machine: Machine,
    /// Of each microVM.
    pub microvm: Size,
    /// Samples of each figure that were asked for.
    pub runs: usize,
    /// The signal that ended it early, if one did.
    pub interrupted_by_signal: Option<u8>,
    /// What was measured of whom; the first is Bulkhead.
    pub subjects: Vec<SubjectReport>,
    /// What can be told apart, and what not.
    pub comparisons: Vec<Comparison>,
}

/// What was measured of a runtime or a VMM.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubjectReport {
    /// As it was called on the command line.
    pub name: String,
    /// `bulkhead`, `oci` or `vmm`.
    pub kind: &'static str,
    /// Its binary.
    pub program: PathBuf,
    /// The first line of what its `--version` prints.
    pub version: String,
    /// The commands that were timed.
    pub commands: Vec<String>,
    /// What ended its measurements early, if anything.
    pub failure: Option<Failure>,
    /// One at a time.
    pub latency: Latency,
    /// Of an idle pod, median.
    pub idle_pod: Option<PodMemory>,
    /// Where the time of a start goes: moments, medians.
    pub phases: Vec<TimelinePhase>,
    /// Several starts at the same time.
    pub concurrency: Vec<AtOnce>,
    /// Starts beside idle pods.
    pub density: Vec<WithRunning>,
}

/// How long things take, one at a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// Exec of the runtime to the container's first instruction.
    pub first_instruction: Option<Summary>,
    /// Exec of the runtime (the VMM) to the first output.
    pub first_output: Option<Summary>,
    /// Exec to return of a container that exits at once.
    pub run: Option<Summary>,
    /// Exec of `exec` to its process's first instruction.
    pub exec_first_instruction: Option<Summary>,
    /// Exec of `exec` to its process's first output.
    pub exec_first_output: Option<Summary>,
    /// A container's last output to the return of `run`.
    pub teardown: Option<Summary>,
}

impl Latency {
    /// The figures with the names of their keys.
    pub fn figures(&self) -> [(&'static str, Option<&Summary>); 6] {
        [
            ("first_instruction", self.first_instruction.as_ref()),
            ("first_output", self.first_output.as_ref()),
            ("run", self.run.as_ref()),
            (
                "exec_first_instruction",
                self.exec_first_instruction.as_ref(),
            ),
            ("exec_first_output", self.exec_first_output.as_ref()),
            ("teardown", self.teardown.as_ref()),
        ]
    }
}

/// What pods cost their host: proportional set size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PodMemory {
    /// Of all host processes.
    pub pss_kib: u64,
    /// Of the guest's memory in them, and of the files mapped over it.
    pub guest_pss_kib: u64,
}

impl PodMemory {
    pub(super) fn sum(pods: &[Memory]) -> Self {
        Self {
            pss_kib: pods.iter().map(|memory| memory.pod).sum(),
            guest_pss_kib: pods.iter().map(|memory| memory.guest).sum(),
        }
    }

    fn median(samples: &[Memory]) -> Option<Self> {
        let middle = |of: fn(&Memory) -> u64| {
            let mut values: Vec<_> = samples.iter().map(of).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied()
        };
        Some(Self {
            pss_kib: middle(|memory| memory.pod)?,
            guest_pss_kib: middle(|memory| memory.guest)?,
        })
    }
}

/// A moment of a start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimelinePhase {
    /// What has happened then (docs/startup.md).
    pub name: String,
    /// `host` or `guest`: where the time since the moment before was spent.
    pub on: &'static str,
    /// Since the runtime's exec.
    pub at_ms: f64,
}

/// Starts at the same time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AtOnce {
    /// How many.
    pub at_once: usize,
    /// How many containers (guests) ran to their end in a second.
    pub starts_per_s: f64,
    /// Exec to return of each.
    pub run: Option<Summary>,
}

/// Starts beside idle pods.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WithRunning {
    /// How many idle pods there were.
    pub running: usize,
    /// Of all of them together.
    pub idle_pods: PodMemory,
    /// Exec to first output of another one.
    pub first_output: Option<Summary>,
}

/// What ended the measurements of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What was being done.
    pub during: String,
    /// What went wrong.
    pub message: String,
}

impl Failure {
    pub(super) fn new(during: &str, error: &Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self {
            during: during.into(),
            message,
        }
    }

    pub(super) fn before_the_start(reason: &str) -> Self {
        Self {
            during: "check of the host".into(),
            message: reason.into(),
        }
    }
}

/// A figure of Bulkhead beside the same of another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Its key in `latency`.
    pub figure: &'static str,
    /// `bulkhead` or `bulkhead-vmm`.
    pub subject: String,
    /// Whom it is compared with.
    pub other: String,
    /// The other's median less this one's.
    pub difference_ms: f64,
    /// Whether the medians' confidence intervals do not overlap: if they do, the
    /// machine was too noisy, or the runs were too few, to tell the two apart.
    /// `None` with fewer than six samples of each.
    pub told_apart: Option<bool>,
}

impl Report {
    pub(super) fn new(
        plan: &Plan,
        watch: &Watch,
        started_at: SystemTime,
        took: Duration,
        subjects: Vec<Subject>,
    ) -> Self {
        let since_epoch = started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let subjects: Vec<_> = subjects.into_iter().map(SubjectReport::new).collect();
        Self {
            schema: SCHEMA,
            started_unix_s: since_epoch.as_secs(),
            took_s: took.as_secs_f64(),
            command: plan.command.clone(),
            machine: Machine::of(plan.host),
            microvm: plan.size,
            runs: plan.runs,
            interrupted_by_signal: watch.signal(),
            comparisons: comparisons(&subjects),
            subjects,
        }
    }

    /// As an HTML file that needs no other.
    pub fn to_html(&self) -> String {
        super::html::page(self)
    }

    /// Whether something is missing from it.
    pub fn is_incomplete(&self) -> bool {
        self.interrupted_by_signal.is_some()
            || self
                .subjects
                .iter()
                .any(|subject| subject.failure.is_some())
    }
}

impl SubjectReport {
    fn new(subject: Subject) -> Self {
        let samples = &subject.samples;
        // A figure that some starts lack is not one of all of them.
        let of_all = |values: &[f64]| {
            (values.len() == samples.first_output.len())
                .then(|| Summary::of(values))
                .flatten()
        };
        let latency = Latency {
            first_instruction: of_all(&samples.first_instruction),
            first_output: Summary::of(&samples.first_output),
            run: Summary::of(&samples.run),
            exec_first_instruction: of_all(&samples.exec_first_instruction),
            exec_first_output: Summary::of(&samples.exec_first_output),
            teardown: Summary::of(&samples.teardown),
        };
        let concurrency = subject.at_once.iter().map(|samples| AtOnce {
            at_once: samples.at_once,
            starts_per_s: samples.starts_per_s,
            run: Summary::of(&samples.run),
        });
        let density = subject.beside.iter().map(|samples| WithRunning {
            running: samples.running,
            idle_pods: samples.memory,
            first_output: Summary::of(&samples.first_output),
        });
        Self {
            latency,
            idle_pod: PodMemory::median(&samples.memory),
            phases: phases(&samples.moments),
            concurrency: concurrency.collect(),
            density: density.collect(),
            name: subject.name,
            kind: subject.kind,
            program: subject.program,
            version: subject.version,
            commands: subject.commands,
            failure: subject.failure,
        }
    }
}

/// The moments' medians, in the order of the first start.
fn phases(starts: &[Vec<(String, f64)>]) -> Vec<TimelinePhase> {
    let names = starts.first().into_iter().flatten();
    let phase = |(name, _): &(String, f64)| {
        let moment = |start: &Vec<(String, f64)>| {
            let found = start.iter().find(|(other, _)| other == name);
            found.map(|(_, ms)| *ms)
        };
        let moments: Vec<_> = starts.iter().filter_map(moment).collect();
        let on = match name.as_str() {
            "agent-started" | "agent-ready" | "first-instruction" => "guest",
            _ => "host",
        };
        Summary::of(&moments).map(|summary| TimelinePhase {
            name: name.clone(),
            on,
            at_ms: summary.median_ms,
        })
    };
    names.filter_map(phase).collect()
}

/// Bulkhead with each other runtime, its VMM with each other VMM.
fn comparisons(subjects: &[SubjectReport]) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    for (of, with) in [("bulkhead", "oci"), ("bulkhead-vmm", "vmm")] {
        let Some(subject) = subjects.iter().find(|subject| subject.name == of) else {
            continue;
        };
        let others = subjects.iter();
        for other in others.filter(|other| other.kind == with && other.name != of) {
            comparisons.extend(compare(subject, other));
        }
    }
    comparisons
}

fn compare<'s>(
    subject: &'s SubjectReport,
    other: &'s SubjectReport,
) -> impl Iterator<Item = Comparison> + 's {
    let pairs = subject.latency.figures().into_iter();
    let pairs = pairs.zip(other.latency.figures());
    pairs.filter_map(|((figure, ours), (_, theirs))| {
        let (ours, theirs) = (ours?, theirs?);
        Some(Comparison {
            figure,
            subject: subject.name.clone(),
            other: other.name.clone(),
            difference_ms: theirs.median_ms - ours.median_ms,
            told_apart: ours.is_apart_from(theirs),
        })
    })
}
