//! The processes of a sandbox: this program again, under other verbs.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

/// A child process that dies with its owner.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Child,
    handle: OwnedFd,
}

/// How a process ended, as one says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending(pub ExitStatus);

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(f, "exited with code {code}"),
            (None, Some(signal)) => write!(f, "was killed by signal {signal}"),
            (None, None) => write!(f, "ended ({})", self.0),
        }
    }
}

impl Helper {
    /// Starts `bulkhead <verb>` as prepared, in a process group of its own: a
    /// ^C at the terminal is for the container, and comes by way of us.
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        let handle = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self { child, handle })
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it does so within `grace`.
    pub(super) fn wait_for(&mut self, grace: Duration) -> Option<Ending> {
        let timeout = Timespec::try_from(grace).ok();
        let mut ended = [PollFd::new(&self.handle, PollFlags::IN)];
        // An interrupted wait is a shorter one.
        let _ = rustix::event::poll(&mut ended, timeout.as_ref());
        self.child.try_wait().ok().flatten().map(Ending)
    }

    /// How it ended: by itself or, if that takes longer than `grace`, by us.
    /// `None` if nobody can tell.
    pub(super) fn end_within(&mut self, grace: Duration) -> Option<Ending> {
        self.wait_for(grace).or_else(|| self.kill())
    }

    /// Ends it, and waits until it is gone.
    pub(super) fn kill(&mut self) -> Option<Ending> {
        // Fails only if it is gone already.
        let _ = self.child.kill();
        self.child.wait().ok().map(Ending)
    }
}

impl AsFd for Helper {
    /// Readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command that runs `bulkhead <verb>`: the very file that this process
/// runs, even if it has been replaced since.
pub(crate) fn this_program(verb: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("bulkhead").arg(verb);
    command
}

/// Lets a descriptor be inherited by the next process that is started.
pub(super) fn inherit(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?)
}
