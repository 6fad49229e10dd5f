//! The time from an emulator's start to the end of its job.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::process::Emulator;
use super::{Sink, hang};

/// A machine that is not up after this long will not come up.
const BOOT_TIMEOUT: Duration = Duration::from_mins(2);

/// The exit code for a job that did not end in time, as timeout(1) has it.
const TIMEOUT_CODE: u8 = 124;

/// How often to see whether the emulator is still there.
const EMULATOR_CHECK: Duration = Duration::from_millis(200);

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The job ended with this exit code.
    Exited(u8),
    /// The emulator ended, the job had not.
    EmulatorGone,
    /// The machine did not come up.
    BootTimeout,
    /// The job did not end in time.
    JobTimeout,
}

/// What is left of a machine that may tell what went wrong.
pub(super) struct Evidence {
    /// How long the job was given.
    pub(super) timeout: Duration,
    /// The emulator's log and the machine's console.
    pub(super) logs: [PathBuf; 2],
    /// The registers of its CPU, where it hangs.
    pub(super) registers: Option<String>,
}

impl End {
    /// The exit code to pass on; what went wrong is said on standard error.
    pub(super) fn exit_code(self, evidence: &Evidence) -> Result<u8> {
        let what = match self {
            Self::Exited(code) => return Ok(code),
            Self::EmulatorGone => "the machine stopped before the job ended".into(),
            Self::BootTimeout => "the machine did not come up".into(),
            Self::JobTimeout => {
                format!(
                    "the job did not end within {} s",
                    evidence.timeout.as_secs()
                )
            }
        };
        for log in &evidence.logs {
            eprint!("{}", hang::tail(log));
        }
        if let Some(registers) = &evidence.registers {
            eprint!("{}", hang::general_registers(registers));
        }
        if self == Self::EmulatorGone {
            bail!(what);
        }
        eprintln!("error: {what}");
        Ok(TIMEOUT_CODE)
    }
}

/// Copies all that comes from `source` to `sink`, in a thread of its own.
pub(super) fn pump(mut source: impl Read + Send + 'static, mut sink: Sink) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 16384];
        // An error of either side ends the copy, as the end of the output does;
        // whether the job succeeded is said on the control channel.
        while let Ok(count @ 1..) = source.read(&mut buffer) {
            if sink
                .write_all(&buffer[..count])
                .and_then(|()| sink.flush())
                .is_err()
            {
                break;
            }
        }
    })
}

/// The lines that a machine's init writes to its control channel.
pub(super) struct Lines(Receiver<String>);

impl Lines {
    pub(super) fn of(source: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(io::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self(lines)
    }

    /// Waits for the end of the job, at most for `timeout`.
    pub(super) fn wait(&self, emulator: &mut Emulator, timeout: Duration) -> Result<End> {
        let started = Instant::now();
        let mut up = false;
        loop {
            match self.poll(emulator)? {
                Next::Line(line) if line == "up" => up = true,
                Next::Line(line) => {
                    let code = line
                        .strip_prefix("exit ")
                        .and_then(|code| code.parse().ok())
                        .with_context(|| format!("the machine's init said {line:?}"))?;
                    return Ok(End::Exited(code));
                }
                Next::Gone => return Ok(End::EmulatorGone),
                Next::Nothing => {}
            }
            if !up && started.elapsed() > timeout.min(BOOT_TIMEOUT) {
                return Ok(End::BootTimeout);
            }
            if started.elapsed() > timeout {
                return Ok(End::JobTimeout);
            }
        }
    }

    /// Waits for one line, at most for `timeout`.
    pub(super) fn next(&self, timeout: Duration) -> Option<String> {
        self.0.recv_timeout(timeout).ok()
    }

    fn poll(&self, emulator: &mut Emulator) -> Result<Next> {
        match self.0.recv_timeout(EMULATOR_CHECK) {
            Ok(line) => Ok(Next::Line(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(Next::Gone),
            Err(RecvTimeoutError::Timeout) => Ok(if emulator.is_gone()? {
                Next::Gone
            } else {
                Next::Nothing
            }),
        }
    }
}

enum Next {
    Line(String),
    Nothing,
    Gone,
}
