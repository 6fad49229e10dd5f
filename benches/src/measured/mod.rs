//! Figures of the machine that this runs on: Bulkhead's, and those of other
//! runtimes and VMMs beside them.
//!
//! Samples of the subjects are taken in turn, so that what else the machine does
//! hits all of them alike. One that fails is left out from then on; what was
//! measured of it stays.

mod html;
mod load;
mod machine;
mod report;
mod stats;
mod subject;
mod text;
mod vmm;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use crate::bundle::Size;
use crate::error::Error;
use crate::watch::Watch;

pub use machine::Machine;
pub use report::{
    AtOnce, Comparison, Failure, Latency, PodMemory, Report, SubjectReport, TimelinePhase,
    WithRunning,
};
pub use stats::Summary;
use subject::Subject;

/// A moment on two clocks of the host.
#[derive(Debug, Clone, Copy)]
pub struct HostMoment {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic_ns: u64,
    /// The time stamp counter.
    pub tsc: u64,
}

/// What else the caller knows of the host.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// Reads both clocks.
    pub now: fn() -> HostMoment,
    /// The processor's virtualization technology, if any.
    pub virtualization: Option<&'static str>,
}

/// Something to compare with: a name and a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// As it is called in the report.
    pub name: String,
    /// Its binary.
    pub program: PathBuf,
}

/// What to measure.
#[derive(Debug)]
pub struct Plan {
    /// This program.
    pub bulkhead: PathBuf,
    /// The guest's kernel.
    pub kernel: PathBuf,
    /// Why Bulkhead and VMMs cannot run guests here, if they cannot.
    pub no_kvm: Option<String>,
    /// OCI runtimes to compare with.
    pub runtimes: Vec<Named>,
    /// VMMs to compare with.
    pub vmms: Vec<Named>,
    /// Samples of each figure.
    pub runs: usize,
    /// The most starts at once, and the most pods running beside a start.
    pub concurrency: usize,
    /// Of each microVM.
    pub size: Size,
    /// The command that this is, for the report.
    pub command: String,
    /// The host.
    pub host: Host,
}

impl Plan {
    /// Finds mistakes before anything is measured.
    fn check(&self) -> Result<(), Error> {
        let mut names = vec!["bulkhead", "bulkhead-vmm"];
        for named in self.runtimes.iter().chain(&self.vmms) {
            if names.contains(&named.name.as_str()) {
                return Err(Error::NameTwice {
                    name: named.name.clone(),
                });
            }
            names.push(&named.name);
            let path = &named.program;
            let is_file = fs::metadata(path)
                .map_err(Error::io("find", path))?
                .is_file();
            if !is_file {
                return Err(Error::NoProgram { path: path.clone() });
            }
        }
        for named in &self.vmms {
            if vmm::Kind::of(&named.program).is_none() {
                return Err(Error::UnknownVmm {
                    path: named.program.clone(),
                });
            }
        }
        Ok(())
    }
}

/// Measures. What goes wrong with a subject, or an interrupt, is part of the
/// report; an error is what keeps everything from being measured. `progress` is
/// told what is being done.
pub fn run(plan: &Plan, watch: &Watch, progress: &mut dyn FnMut(&str)) -> Result<Report, Error> {
    plan.check()?;
    let directory = tempfile::Builder::new()
        .prefix("bulkhead-bench")
        .tempdir()
        .map_err(Error::io("create", &std::env::temp_dir()))?;
    let started_at = SystemTime::now();
    let started = Instant::now();
    let mut bench = Bench {
        plan,
        watch,
        progress,
        subjects: subjects(plan, directory.path(), watch)?,
    };
    bench.measure();
    let subjects = bench.subjects;
    Ok(Report::new(
        plan,
        watch,
        started_at,
        started.elapsed(),
        subjects,
    ))
}

/// In the order of the report.
fn subjects(plan: &Plan, directory: &Path, watch: &Watch) -> Result<Vec<Subject>, Error> {
    let mut subjects = vec![Subject::bulkhead(plan, directory, watch)?];
    for runtime in &plan.runtimes {
        subjects.push(Subject::runtime(plan, runtime, directory, watch)?);
    }
    subjects.push(Subject::bulkhead_vmm(plan, directory, watch)?);
    for vmm in &plan.vmms {
        subjects.push(Subject::vmm(plan, vmm, directory, watch)?);
    }
    for (order, subject) in subjects.iter_mut().enumerate() {
        subject.order = order;
    }
    Ok(subjects)
}

struct Bench<'b> {
    plan: &'b Plan,
    watch: &'b Watch,
    progress: &'b mut dyn FnMut(&str),
    subjects: Vec<Subject>,
}

impl Bench<'_> {
    fn measure(&mut self) {
        self.each("warm-up", Subject::warm_up);
        for n in 0..self.plan.runs {
            let what = format!("run {} of {}", n + 1, self.plan.runs);
            let host = self.plan.host;
            // What one leaves behind is not always the same one's burden.
            fastrand::Rng::with_seed(n as u64).shuffle(&mut self.subjects);
            self.each(&what, |subject| subject.sample(n, host));
        }
        self.subjects.sort_by_key(|subject| subject.order);
        for at_once in powers_of_two(self.plan.concurrency) {
            let starts = self.plan.runs.max(at_once);
            let what = format!("{at_once} at once");
            self.each(&what, |subject| subject.start_at_once(at_once, starts));
        }
        let starts = self.plan.runs.div_ceil(4);
        for running in std::iter::once(0).chain(powers_of_two(self.plan.concurrency)) {
            let what = format!("with {running} running");
            self.each(&what, |subject| subject.start_beside(running, starts));
        }
    }

    /// Does a step with each subject that has not failed, unless there is an
    /// interrupt.
    fn each(&mut self, what: &str, mut step: impl FnMut(&mut Subject) -> Result<(), Error>) {
        for subject in &mut self.subjects {
            if self.watch.signal().is_some() {
                return;
            }
            if subject.failure.is_some() {
                continue;
            }
            (self.progress)(&format!("{}: {what}", subject.name));
            match step(subject) {
                Ok(()) | Err(Error::Interrupted) => {}
                Err(error) => subject.failure = Some(Failure::new(what, &error)),
            }
        }
    }
}

/// 1, 2, 4 and so on, and the greatest itself.
fn powers_of_two(greatest: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1), |n: &usize| n.checked_mul(2));
    let mut powers: Vec<_> = powers.take_while(|n| *n < greatest).collect();
    powers.push(greatest);
    powers
}

#[cfg(test)]
mod tests;
