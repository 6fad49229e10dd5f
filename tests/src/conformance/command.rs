//! Commands that end, one way or the other.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long anything may take. Emulated hosts are slow.
pub(super) const TIMEOUT: Duration = Duration::from_mins(1);

/// How often is looked whether something has happened.
const INTERVAL: Duration = Duration::from_millis(20);

/// A stream of a command's, which its container may still be writing to: a file, so
/// that nobody waits for its end.
#[derive(Debug)]
pub(super) struct Stream(File);

impl Stream {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(tempfile::tempfile().context("create a file")?))
    }

    /// What has been written to it.
    pub(super) fn text(&self) -> Result<String> {
        let length = self.0.metadata()?.len() as usize;
        let mut bytes = vec![0; length];
        // Not by reading on: the file's offset is the writers'.
        self.0.read_exact_at(&mut bytes, 0)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn stdio(&self) -> Result<Stdio> {
        Ok(self.0.try_clone()?.into())
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    line: String,
    status: ExitStatus,
    /// Its standard output.
    pub(super) stdout: Stream,
    stderr: Stream,
}

impl Ended {
    /// Runs a command to its end, with nothing on its input.
    pub(super) fn of(command: &mut Command) -> Result<Self> {
        let (stdout, stderr) = (Stream::new()?, Stream::new()?);
        command
            .stdin(Stdio::null())
            .stdout(stdout.stdio()?)
            .stderr(stderr.stdio()?);
        let line = format!("{command:?}");
        let mut child = command.spawn().with_context(|| format!("start {line}"))?;
        let Some(status) = wait(&mut child)? else {
            bail!("{line} did not end: {}", stderr.text()?);
        };
        Ok(Self {
            line,
            status,
            stdout,
            stderr,
        })
    }

    /// Whether it succeeded.
    pub(super) fn is_success(&self) -> bool {
        self.status.success()
    }

    /// Its exit code, if no signal ended it.
    pub(super) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Fails unless the command succeeded.
    pub(super) fn succeeds(self) -> Result<Self> {
        let Self { line, status, .. } = &self;
        ensure!(self.is_success(), "{line}: {status}: {}", self.said()?);
        Ok(self)
    }

    /// Fails unless the command failed in an orderly way, for the reason `what`.
    pub(super) fn fails(self, what: &str) -> Result<()> {
        let Self { line, status, .. } = &self;
        ensure!(!self.is_success(), "{what} is no error: {line}");
        ensure!(status.signal().is_none(), "{what} is a crash: {status}");
        Ok(())
    }

    /// Its messages, on one line.
    pub(super) fn said(&self) -> Result<String> {
        Ok(self.stderr.text()?.trim().replace('\n', "; "))
    }
}

/// Waits for a child's end; one that takes too long is killed.
fn wait(child: &mut Child) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(INTERVAL);
    }
}

/// Waits until `condition` holds.
pub(super) fn wait_until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while !condition()? {
        ensure!(Instant::now() < deadline, "in vain waited until {what}");
        thread::sleep(INTERVAL);
    }
    Ok(())
}
