//! What is measured: an OCI runtime, or a VMM without one.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::load::{self, AtOnceSamples};
use super::report::{Failure, PodMemory};
use super::vmm::{Kind, Vmm};
use super::{Host, HostMoment, Named, Plan};
use crate::bundle::{self, Bundle};
use crate::error::Error;
use crate::memory::Memory;
use crate::pod::{self, Pod, Runtime, Started, milliseconds};
use crate::process::Process;
use crate::watch::Watch;

/// Samples of the figures, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) first_instruction: Vec<f64>,
    pub(super) first_output: Vec<f64>,
    pub(super) run: Vec<f64>,
    pub(super) exec_first_instruction: Vec<f64>,
    pub(super) exec_first_output: Vec<f64>,
    pub(super) teardown: Vec<f64>,
    pub(super) memory: Vec<Memory>,
    /// Of each start, where its time went.
    pub(super) moments: Vec<Vec<(String, f64)>>,
}

/// Something that is measured.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: String,
    /// Its place in the report.
    pub(super) order: usize,
    pub(super) kind: &'static str,
    pub(super) program: PathBuf,
    pub(super) version: String,
    pub(super) commands: Vec<String>,
    runner: Runner,
    pub(super) samples: Samples,
    pub(super) at_once: Vec<AtOnceSamples>,
    pub(super) beside: Vec<BesideSamples>,
    pub(super) failure: Option<Failure>,
}

/// Starts beside pods that are running.
#[derive(Debug)]
pub(super) struct BesideSamples {
    pub(super) running: usize,
    pub(super) first_output: Vec<f64>,
    pub(super) memory: PodMemory,
}

#[derive(Debug)]
enum Runner {
    Oci {
        runtime: Runtime,
        waiting: Bundle,
        exiting: Bundle,
        is_bulkhead: bool,
    },
    Vmm(Vmm),
}

impl Subject {
    pub(super) fn bulkhead(plan: &Plan, directory: &Path, watch: &Watch) -> Result<Self, Error> {
        let named = Named {
            name: "bulkhead".into(),
            program: plan.bulkhead.clone(),
        };
        let mut subject = Self::oci(plan, &named, "bulkhead", directory, watch)?;
        subject.failure = plan.no_kvm.as_deref().map(Failure::before_the_start);
        Ok(subject)
    }

    pub(super) fn runtime(
        plan: &Plan,
        named: &Named,
        directory: &Path,
        watch: &Watch,
    ) -> Result<Self, Error> {
        Self::oci(plan, named, "oci", directory, watch)
    }

    fn oci(
        plan: &Plan,
        named: &Named,
        kind: &'static str,
        directory: &Path,
        watch: &Watch,
    ) -> Result<Self, Error> {
        let directory = directory.join(&named.name);
        let is_bulkhead = kind == "bulkhead";
        let mut runtime = Runtime::new(&named.program, &directory, watch)?;
        if is_bulkhead {
            runtime = runtime.with_timeline();
        }
        let bundle = |name: &str, command| {
            Bundle::new(&plan.bulkhead, directory.join(name), command, plan.size)
        };
        let (waiting, exiting) = (
            bundle("waiting", bundle::WAIT)?,
            bundle("exiting", bundle::EXIT)?,
        );
        let commands = runtime.command_lines(&waiting);
        let runner = Runner::Oci {
            runtime,
            waiting,
            exiting,
            is_bulkhead,
        };
        Self::new(named, kind, commands, runner, &directory, watch)
    }

    pub(super) fn bulkhead_vmm(
        plan: &Plan,
        directory: &Path,
        watch: &Watch,
    ) -> Result<Self, Error> {
        let named = Named {
            name: "bulkhead-vmm".into(),
            program: plan.bulkhead.clone(),
        };
        Self::bare(plan, &named, Kind::Bulkhead, directory, watch)
    }

    pub(super) fn vmm(
        plan: &Plan,
        named: &Named,
        directory: &Path,
        watch: &Watch,
    ) -> Result<Self, Error> {
        let kind = Kind::of(&named.program).ok_or_else(|| Error::UnknownVmm {
            path: named.program.clone(),
        })?;
        Self::bare(plan, named, kind, directory, watch)
    }

    fn bare(
        plan: &Plan,
        named: &Named,
        kind: Kind,
        directory: &Path,
        watch: &Watch,
    ) -> Result<Self, Error> {
        let directory = directory.join(&named.name);
        let program = &named.program;
        let vmm = Vmm::new(kind, program, &plan.kernel, plan.size, &directory, watch)?;
        let commands = vec![vmm.command_line()];
        let runner = Runner::Vmm(vmm);
        let mut subject = Self::new(named, "vmm", commands, runner, &directory, watch)?;
        if let Some(reason) = &plan.no_kvm {
            subject.failure = Some(Failure::before_the_start(reason));
        }
        Ok(subject)
    }

    fn new(
        named: &Named,
        kind: &'static str,
        commands: Vec<String>,
        runner: Runner,
        directory: &Path,
        watch: &Watch,
    ) -> Result<Self, Error> {
        let version = version(&named.program, directory, watch)?;
        Ok(Self {
            name: named.name.clone(),
            order: 0,
            kind,
            program: named.program.clone(),
            version,
            commands,
            runner,
            samples: Samples::default(),
            at_once: Vec::new(),
            beside: Vec::new(),
            failure: None,
        })
    }

    /// What is cold in a first start is not what is compared.
    pub(super) fn warm_up(&mut self) -> Result<(), Error> {
        match &self.runner {
            Runner::Oci {
                runtime, waiting, ..
            } => {
                let (mut pod, _) = Pod::start(runtime, waiting, "warm-up")?;
                pod.exec()?;
                pod.end()?;
            }
            Runner::Vmm(vmm) => {
                vmm.boot("warm-up")?;
            }
        }
        Ok(())
    }

    /// One sample of each figure.
    pub(super) fn sample(&mut self, n: usize, host: Host) -> Result<(), Error> {
        match &self.runner {
            Runner::Vmm(vmm) => {
                let boot = vmm.boot(&format!("run-{n}"))?;
                self.samples.first_output.push(boot.first_output_ms);
                self.samples.run.push(boot.run_ms);
            }
            Runner::Oci {
                runtime,
                waiting,
                exiting,
                is_bulkhead,
            } => {
                let samples = &mut self.samples;
                sample_pod(samples, runtime, waiting, *is_bulkhead, n, host)?;
                let id = format!("exit-{n}");
                samples
                    .run
                    .push(pod::run_to_exit(runtime, exiting, &id)?.run_ms);
            }
        }
        Ok(())
    }

    /// `starts` starts to the exit, `at_once` of them at any time.
    pub(super) fn start_at_once(&mut self, at_once: usize, starts: usize) -> Result<(), Error> {
        let samples = match &self.runner {
            Runner::Vmm(vmm) => load::at_once(at_once, starts, |n| {
                Ok(vmm.boot(&format!("at-once-{at_once}-{n}"))?.run_ms)
            })?,
            Runner::Oci {
                runtime, exiting, ..
            } => load::at_once(at_once, starts, |n| {
                let id = format!("at-once-{at_once}-{n}");
                Ok(pod::run_to_exit(runtime, exiting, &id)?.run_ms)
            })?,
        };
        self.at_once.push(samples);
        Ok(())
    }

    /// `starts` starts while `running` other pods are idle. A VMM's guest does
    /// not idle, it ends.
    pub(super) fn start_beside(&mut self, running: usize, starts: usize) -> Result<(), Error> {
        let Runner::Oci {
            runtime,
            waiting,
            exiting,
            ..
        } = &self.runner
        else {
            return Ok(());
        };
        let mut pods = Vec::new();
        for n in 0..running {
            pods.push(Pod::start(runtime, waiting, &format!("idle-{running}-{n}"))?.0);
        }
        let mut first_output = Vec::new();
        for n in 0..starts {
            let id = format!("beside-{running}-{n}");
            first_output.push(pod::run_to_exit(runtime, exiting, &id)?.first_output_ms);
        }
        let memory = pods
            .iter()
            .map(Pod::memory)
            .collect::<Result<Vec<_>, _>>()?;
        for pod in &mut pods {
            pod.end()?;
        }
        self.beside.push(BesideSamples {
            running,
            first_output,
            memory: PodMemory::sum(&memory),
        });
        Ok(())
    }
}

/// A container's whole life: its start, its memory, a process beside it, its end.
fn sample_pod(
    samples: &mut Samples,
    runtime: &Runtime,
    bundle: &Bundle,
    is_bulkhead: bool,
    n: usize,
    host: Host,
) -> Result<(), Error> {
    let before = (host.now)();
    let (mut pod, started) = Pod::start(runtime, bundle, &format!("run-{n}"))?;
    samples.first_output.push(since_exec(&started));
    samples.memory.push(pod.memory()?);
    let exec = pod.exec()?;
    samples.exec_first_output.push(since_exec(&exec));
    let ended = pod.end()?;
    samples
        .teardown
        .push(milliseconds(ended.exit.seen_ns, ended.returned_ns));
    let clock = HostClock {
        first: before,
        second: (host.now)(),
    };
    let (first, exec_first) = if is_bulkhead {
        let timeline = pod.timeline()?;
        let Some(clock) = timeline.clock else {
            return Ok(());
        };
        let mut moments = timeline.moments_since(&clock, started.exec_ns);
        moments.push(("first-output".into(), since_exec(&started)));
        samples.moments.push(moments);
        let ms = |s: &Started| clock.ms_from_host(s.exec_ns, s.first_instruction.tsc);
        (Some(ms(&started)), Some(ms(&exec)))
    } else {
        (clock.plausible_ms(&started), clock.plausible_ms(&exec))
    };
    samples.first_instruction.extend(first);
    samples.exec_first_instruction.extend(exec_first);
    Ok(())
}

/// Milliseconds from a command's exec to the first output of its program.
fn since_exec(started: &Started) -> f64 {
    milliseconds(started.exec_ns, started.first_instruction.seen_ns)
}

/// The host's own counter between two moments.
struct HostClock {
    first: HostMoment,
    second: HostMoment,
}

impl HostClock {
    /// Milliseconds to the first instruction, if the stamp can be the host's: a
    /// runtime without virtual machines shares the host's counter.
    #[allow(clippy::cast_precision_loss)]
    fn plausible_ms(&self, started: &Started) -> Option<f64> {
        let ticks = self.second.tsc.checked_sub(self.first.tsc)?;
        let ns = self
            .second
            .monotonic_ns
            .checked_sub(self.first.monotonic_ns)?;
        let since = started.first_instruction.tsc.checked_sub(self.first.tsc)?;
        if since > ticks {
            return None;
        }
        let at_ns = self.first.monotonic_ns as f64 + since as f64 * (ns as f64 / ticks as f64);
        let ms = (at_ns - started.exec_ns as f64) / 1e6;
        (0.0..=since_exec(started)).contains(&ms).then_some(ms)
    }
}

/// The first line of what `--version` prints.
fn version(program: &Path, directory: &Path, watch: &Watch) -> Result<String, Error> {
    let mut command = Command::new(program);
    command.arg("--version");
    let mut process = Process::start(&mut command, directory.join("version.stderr"), watch)?;
    let text = process.read_to_end()?;
    process.succeed()?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Stamp;

    #[test]
    fn stamp_is_the_hosts_only_if_it_fits() {
        let clock = HostClock {
            first: HostMoment {
                monotonic_ns: 1_000_000,
                tsc: 500,
            },
            second: HostMoment {
                monotonic_ns: 11_000_000,
                tsc: 10_500,
            },
        };
        let started = |tsc| Started {
            exec_ns: 2_000_000,
            first_instruction: Stamp {
                tsc,
                seen_ns: 8_000_000,
            },
        };
        // 4 ms after the first moment, 3 after the exec.
        let ms = clock.plausible_ms(&started(4_500)).map(|ms| ms.to_string());
        assert_eq!(ms.as_deref(), Some("3"));
        for tsc in [0, 600, 9_000, 10_600, u64::MAX] {
            assert_eq!(clock.plausible_ms(&started(tsc)), None, "{tsc}");
        }
    }
}
