//! Processes that are watched: their output, their end, what they said.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::error::{Error, Outcome};
use crate::timeline::monotonic_ns;
use crate::watch::{Halt, Watch};

/// How much of a failed command's standard error is shown.
const MESSAGE_MAX: usize = 2000;

/// A process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    command: String,
    stderr: Option<PathBuf>,
    watch: Watch,
    /// `CLOCK_MONOTONIC` just before it was started.
    pub(crate) exec_ns: u64,
}

impl Process {
    /// Starts a command, its standard output to be read here, its standard error
    /// in a file. Signals from a terminal do not reach it: its end is ours to
    /// bring about.
    pub(crate) fn start(
        command: &mut Command,
        stderr: PathBuf,
        watch: &Watch,
    ) -> Result<Self, Error> {
        let messages = File::create(&stderr).map_err(Error::io("create", &stderr))?;
        Self::spawn(command.stderr(messages), Some(stderr), watch)
    }

    /// The same for one whose messages nobody wants.
    pub(crate) fn start_silently(command: &mut Command, watch: &Watch) -> Result<Self, Error> {
        Self::spawn(command.stderr(Stdio::null()), None, watch)
    }

    fn spawn(command: &mut Command, stderr: Option<PathBuf>, watch: &Watch) -> Result<Self, Error> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.process_group(0);
        let exec_ns = monotonic_ns();
        let child = command.spawn().map_err(|source| Error::Start {
            program: command.get_program().into(),
            source,
        })?;
        Ok(Self {
            child,
            command: line(command),
            stderr,
            watch: watch.clone(),
            exec_ns,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // Fails only if it has ended, which is seen next.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Fills `buffer` from its standard output; the moment in nanoseconds when
    /// that had come.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<u64, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 => return Err(self.ended_early()),
                count => filled += count,
            }
        }
        Ok(monotonic_ns())
    }

    /// Reads until the byte `wanted` comes, and tells when it had.
    pub(crate) fn read_until(&mut self, wanted: u8) -> Result<u64, Error> {
        let mut buffer = [0; 256];
        loop {
            match self.read_some(&mut buffer)? {
                0 => return Err(self.ended_early()),
                count if buffer[..count].contains(&wanted) => return Ok(monotonic_ns()),
                _ => {}
            }
        }
    }

    /// All that is left of its standard output.
    pub(crate) fn read_to_end(&mut self) -> Result<String, Error> {
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.read_some(&mut buffer)? {
                0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
                count => text.extend(&buffer[..count]),
            }
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let Some(stdout) = &mut self.child.stdout else {
            return Ok(0);
        };
        let waited = self.watch.readable(stdout.as_fd());
        let read = waited.and_then(|()| stdout.read(buffer).map_err(Halt::Failed));
        read.map_err(|halt| self.halted(halt))
    }

    /// Waits for its end; its status, and the moment in nanoseconds.
    pub(crate) fn wait(&mut self) -> Result<(ExitStatus, u64), Error> {
        let end = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())
            .map_err(|error| Halt::Failed(error.into()));
        let waited = end.and_then(|end| self.watch.readable(end.as_fd()));
        let waited = waited.and_then(|()| self.child.wait().map_err(Halt::Failed));
        let status = waited.map_err(|halt| self.halted(halt))?;
        Ok((status, monotonic_ns()))
    }

    /// The same for a process that must succeed.
    pub(crate) fn succeed(&mut self) -> Result<u64, Error> {
        let (status, at_ns) = self.wait()?;
        if status.success() {
            Ok(at_ns)
        } else {
            Err(self.failed(Outcome::Ended(status)))
        }
    }

    fn ended_early(&mut self) -> Error {
        match self.wait() {
            Ok((status, _)) => self.failed(Outcome::Silent(status)),
            Err(error) => error,
        }
    }

    fn halted(&self, halt: Halt) -> Error {
        match halt {
            Halt::Interrupted => Error::Interrupted,
            Halt::TimedOut => self.failed(Outcome::TimedOut),
            Halt::Failed(source) => Error::Wait {
                command: self.command.clone(),
                source,
            },
        }
    }

    fn failed(&self, outcome: Outcome) -> Error {
        Error::Failed {
            command: self.command.clone(),
            outcome,
            message: self.stderr.as_deref().map(last_words).unwrap_or_default(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // All fail only if there is nothing left of it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(stderr) = &self.stderr {
            let _ = fs::remove_file(stderr);
        }
    }
}

/// Runs a command that must succeed to its end; what it wrote to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>, Error> {
    let output = command.output().map_err(|source| Error::Start {
        program: command.get_program().into(),
        source,
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::Failed {
        command: line(command),
        outcome: Outcome::Ended(output.status),
        message: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The end of what is in a file of messages.
fn last_words(path: &Path) -> String {
    // The failure itself is told in any case.
    let text = fs::read(path).unwrap_or_default();
    let start = text.len().saturating_sub(MESSAGE_MAX);
    String::from_utf8_lossy(&text[start..]).into_owned()
}

/// A command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shell(script: &str, patience: Duration) -> (tempfile::TempDir, Result<Process, Error>) {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let stderr = directory.path().join("stderr");
        let process = Process::start(&mut command, stderr, &Watch::new(patience, None));
        (directory, process)
    }

    #[test]
    fn output_and_end_are_seen_in_their_order() {
        let (_directory, process) = shell("printf ab; read x; exit 0", Duration::from_mins(1));
        let mut process = process.unwrap();
        let mut output = [0; 2];
        let read_ns = process.read(&mut output).unwrap();
        let ended_ns = process.succeed().unwrap();
        assert_eq!(&output, b"ab");
        assert!(process.exec_ns < read_ns && read_ns < ended_ns);
    }

    #[test]
    fn failure_tells_what_was_said() {
        let script = "echo nothing works >&2; exit 3";
        let (_directory, process) = shell(script, Duration::from_mins(1));
        let error = process.unwrap().read(&mut [0; 8]).unwrap_err().to_string();
        assert!(error.contains("nothing works"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn patience_ends() {
        let (_directory, process) = shell("exec sleep 1000", Duration::from_millis(20));
        let error = process.unwrap().wait().unwrap_err().to_string();
        assert!(error.contains("too long"), "{error}");
    }

    #[test]
    fn program_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("/no/such/program");
        let watch = Watch::new(Duration::from_secs(1), None);
        let started = Process::start(&mut command, directory.path().join("stderr"), &watch);
        let error = started.unwrap_err().to_string();
        assert!(error.contains("/no/such/program"), "{error}");
    }
}
