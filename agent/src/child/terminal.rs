//! A process's terminal, from its container's own devpts.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use bulkhead_protocol::WindowSize;
use rustix::fs::{OFlags, Uid, fchown};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stdin};
use rustix::termios::{Winsize, tcsetwinsize};

use super::control::Control;
use super::error::{Context, Result};
use super::mounts;
use super::resolve::Root;

const MULTIPLEXER: &str = "/dev/pts/ptmx";
const CONSOLE: &str = "/dev/console";

/// A new pseudo-terminal.
pub(super) struct Terminal {
    slave: OwnedFd,
}

impl Terminal {
    /// Opens one in the container and hands its master side to the agent.
    ///
    /// In a running container the multiplexer may have been replaced by
    /// anything; what is not one refuses to tell its other side.
    pub(super) fn open(root: &Root, size: WindowSize, control: &Control) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK;
        let master = root
            .open(Path::new(MULTIPLEXER), flags)
            .on_path("open (a terminal needs a devpts there)", MULTIPLEXER)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let open_slave = || {
            unlockpt(&master)?;
            ioctl_tiocgptpeer(&master, flags)
        };
        let slave = open_slave().on_path("open the terminal of", MULTIPLEXER)?;
        tcsetwinsize(&master, window_size(size)).step("set the terminal's size")?;
        control
            .send_terminal(master.as_fd())
            .step("hand over the terminal")?;
        Ok(Self { slave })
    }

    /// Shows it as the container's `/dev/console`.
    pub(super) fn bind_console(&self, root: &Root) -> Result<()> {
        let bind = || {
            let mount = mounts::clone(&self.slave, Path::new(""), false)?;
            let target = root.make_file(Path::new(CONSOLE))?;
            mounts::attach(mount, target.as_fd())
        };
        bind().on_path("bind the terminal to", CONSOLE)
    }

    /// Makes it the standard streams and the controlling terminal. The process
    /// leads a session of its own; the terminal is its user's.
    pub(super) fn take(self, uid: Uid) -> Result<()> {
        let take = || {
            fchown(&self.slave, Some(uid), None)?;
            dup2_stdin(&self.slave)?;
            dup2_stdout(&self.slave)?;
            dup2_stderr(&self.slave)?;
            ioctl_tiocsctty(stdin())
        };
        take().step("take the terminal")
    }
}

/// As the kernel has it; pixels are unknown.
pub(crate) fn window_size(size: WindowSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
