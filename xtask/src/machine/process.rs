//! Processes that do not outlive us, and the folder they work in.

use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// How often to see whether an emulator has connected.
const CONNECT_CHECK: Duration = Duration::from_millis(5);

/// A folder for one machine's files, gone when it is dropped.
pub(super) fn folder() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("bulkhead-host-")
        .tempdir()
        .context("make a folder for the machine")
}

/// A command that is killed when the thread that starts it ends, even by a signal.
pub(super) fn dies_with_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A running emulator, or a helper of one; dropping kills it.
pub(super) struct Emulator {
    child: Child,
}

impl Emulator {
    pub(super) fn spawn(command: &mut Command) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        Ok(Self { child })
    }

    pub(super) fn is_gone(&mut self) -> Result<bool> {
        let status = self.child.try_wait().context("wait for the emulator")?;
        Ok(status.is_some())
    }

    /// Waits for the emulator to connect to each of the listeners; nothing if it ends
    /// before it does.
    pub(super) fn accept<const N: usize>(
        &mut self,
        listeners: &[UnixListener; N],
    ) -> Result<Option<[UnixStream; N]>> {
        let mut streams = Vec::new();
        for listener in listeners {
            match self.accept_one(listener)? {
                Some(stream) => streams.push(stream),
                None => return Ok(None),
            }
        }
        Ok(streams.try_into().ok())
    }

    fn accept_one(&mut self, listener: &UnixListener) -> Result<Option<UnixStream>> {
        listener.set_nonblocking(true)?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => return Ok(Some(stream)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("accept a connection of the emulator"),
            }
            if self.is_gone()? {
                return Ok(None);
            }
            thread::sleep(CONNECT_CHECK);
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended by itself, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
