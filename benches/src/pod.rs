//! One container under way, as its host sees it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::bundle::{self, Bundle};
use crate::error::Error;
use crate::memory::{self, Memory};
use crate::process::{Process, line};
use crate::timeline::Timeline;
use crate::watch::Watch;

/// An OCI runtime.
#[derive(Debug)]
pub(crate) struct Runtime {
    program: PathBuf,
    state_root: PathBuf,
    /// For what the runtime says.
    scratch: PathBuf,
    has_timeline: bool,
    watch: Watch,
}

impl Runtime {
    /// A runtime whose files are kept in `directory`.
    pub(crate) fn new(program: &Path, directory: &Path, watch: &Watch) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
        Ok(Self {
            program: program.to_owned(),
            state_root: directory.join("state"),
            scratch: directory.to_owned(),
            has_timeline: false,
            watch: watch.clone(),
        })
    }

    /// For Bulkhead itself: starts are to tell where their time went.
    pub(crate) fn with_timeline(mut self) -> Self {
        self.has_timeline = true;
        self
    }

    /// A command of the runtime, ready for its verb.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.state_root);
        command
    }

    fn run_command(&self, bundle: &Bundle, id: &str) -> Command {
        let mut command = self.command();
        command.args(["run", "--bundle"]).arg(bundle.path());
        if self.has_timeline {
            command.arg("--timeline").arg(self.timeline(id));
        }
        command.arg(id);
        command
    }

    fn timeline(&self, id: &str) -> PathBuf {
        self.scratch.join(format!("{id}.timeline"))
    }

    fn start(&self, command: &mut Command, name: &str) -> Result<Process, Error> {
        let stderr = self.scratch.join(format!("{name}.stderr"));
        Process::start(command, stderr, &self.watch)
    }

    /// The commands that are timed, as one would type them.
    pub(crate) fn command_lines(&self, bundle: &Bundle) -> Vec<String> {
        let mut exec = self.command();
        exec.args(["exec", "ID", bundle::EXIT]);
        vec![line(&self.run_command(bundle, "ID")), line(&exec)]
    }
}

/// A stamp that a program in a container took, and when it was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    /// The container's time stamp counter.
    pub(crate) tsc: u64,
    /// `CLOCK_MONOTONIC` when the stamp had arrived.
    pub(crate) seen_ns: u64,
}

/// From a command's exec to the first instruction of the program it led to, and
/// to the command's return.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    /// `CLOCK_MONOTONIC` just before the runtime was executed.
    pub(crate) exec_ns: u64,
    pub(crate) first_instruction: Stamp,
}

/// How a container ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// Just before the program exited.
    pub(crate) exit: Stamp,
    /// `CLOCK_MONOTONIC` when the command had returned.
    pub(crate) returned_ns: u64,
}

/// A container that runs and is idle. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Pod<'r> {
    runtime: &'r Runtime,
    id: String,
    run: Process,
    is_over: bool,
}

impl<'r> Pod<'r> {
    /// Runs the bundle's container, and returns when it has told that it runs.
    pub(crate) fn start(
        runtime: &'r Runtime,
        bundle: &Bundle,
        id: &str,
    ) -> Result<(Self, Started), Error> {
        let run = runtime.start(&mut runtime.run_command(bundle, id), id)?;
        let mut pod = Self {
            runtime,
            id: id.to_owned(),
            run,
            is_over: false,
        };
        let first_instruction = read_stamp(&mut pod.run)?;
        let started = Started {
            exec_ns: pod.run.exec_ns,
            first_instruction,
        };
        Ok((pod, started))
    }

    /// What the pod costs the host now.
    pub(crate) fn memory(&self) -> Result<Memory, Error> {
        memory::of_pod(self.run.pid())
    }

    /// Runs a further process, which exits at once.
    pub(crate) fn exec(&self) -> Result<Started, Error> {
        let mut command = self.runtime.command();
        command.args(["exec", &self.id, bundle::EXIT]);
        let mut process = self
            .runtime
            .start(&mut command, &format!("{}-exec", self.id))?;
        let first_instruction = read_stamp(&mut process)?;
        process.succeed()?;
        Ok(Started {
            exec_ns: process.exec_ns,
            first_instruction,
        })
    }

    /// Has the container exit, and waits until the runtime has cleared up. Not to
    /// be called at once: a signal that comes before the runtime knows that the
    /// container runs ends the start.
    pub(crate) fn end(&mut self) -> Result<Ended, Error> {
        // Passed on to the container, with no other process in between.
        self.run.signal(Signal::TERM);
        self.finish()
    }

    /// Waits for the end of a container that exits by itself.
    fn finish(&mut self) -> Result<Ended, Error> {
        let exit = read_stamp(&mut self.run)?;
        let returned_ns = self.run.succeed()?;
        self.is_over = true;
        Ok(Ended { exit, returned_ns })
    }

    /// What the runtime wrote on where the time of the start went.
    pub(crate) fn timeline(&self) -> Result<Timeline, Error> {
        let path = self.runtime.timeline(&self.id);
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&text).map_err(|source| Error::Content {
            path,
            what: "a timeline with the clock of a guest",
            source,
        })
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut delete = self.runtime.command();
        delete.args(["delete", "--force", &self.id]);
        // A failure is being reported already; this is what can be done, with or
        // without room on the disk, and whatever asks for an end.
        let watch = self.runtime.watch.without_interrupt();
        let _ = Process::start_silently(&mut delete, &watch).and_then(|mut delete| delete.wait());
    }
}

/// A container that exits at once, in milliseconds since the runtime's exec.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShortRun {
    pub(crate) first_output_ms: f64,
    pub(crate) run_ms: f64,
}

/// Runs a container that exits at once.
pub(crate) fn run_to_exit(runtime: &Runtime, bundle: &Bundle, id: &str) -> Result<ShortRun, Error> {
    let run = runtime.start(&mut runtime.run_command(bundle, id), id)?;
    let mut pod = Pod {
        runtime,
        id: id.to_owned(),
        run,
        is_over: false,
    };
    let ended = pod.finish()?;
    let since_exec = |ns| milliseconds(pod.run.exec_ns, ns);
    Ok(ShortRun {
        first_output_ms: since_exec(ended.exit.seen_ns),
        run_ms: since_exec(ended.returned_ns),
    })
}

/// Milliseconds from one moment of `CLOCK_MONOTONIC` to a later one.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn milliseconds(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e6
}

fn read_stamp(process: &mut Process) -> Result<Stamp, Error> {
    let mut stamp = [0; 8];
    let seen_ns = process.read(&mut stamp)?;
    Ok(Stamp {
        tsc: u64::from_le_bytes(stamp),
        seen_ns,
    })
}
