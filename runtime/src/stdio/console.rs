//! A terminal for an engine: a pseudo-terminal whose master goes to the
//! engine's console socket, as with runc.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bulkhead_protocol::WindowSize;
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;

use super::{Local, duplicate, give_up_input_and_output, terminal};
use crate::descriptor_socket;

/// The console could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsoleError {
    /// No pseudo-terminal was to be had.
    #[error("cannot open a pseudo-terminal")]
    Open(#[source] io::Error),
    /// The engine did not take it.
    #[error("cannot send the terminal to the console socket {}", path.display())]
    Send {
        /// The socket.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
}

/// Our side of the pseudo-terminal that an engine has the master of.
#[derive(Debug)]
pub(crate) struct Console {
    slave: File,
}

impl Console {
    /// Opens a pseudo-terminal, sends its master to the socket and makes it
    /// this session's terminal, so that changes of its size are told by
    /// `SIGWINCH` and its end by `SIGHUP`.
    pub(crate) fn send_to(socket: &Path, size: Option<WindowSize>) -> Result<Self, ConsoleError> {
        let (master, slave, name) = open(size).map_err(ConsoleError::Open)?;
        // With the terminal's name as the message.
        descriptor_socket::send(socket, &master, &name).map_err(|source| ConsoleError::Send {
            path: socket.into(),
            source,
        })?;
        Ok(Self {
            slave: slave.into(),
        })
    }

    /// Its size.
    pub(crate) fn size(&self) -> Option<WindowSize> {
        terminal::size_of(&self.slave)
    }

    /// Our side of it. The streams of the command that asked for it have served
    /// their purpose: who waits for their end (Go does) waits for that command.
    pub(crate) fn local(&self) -> io::Result<Local> {
        give_up_input_and_output()?;
        let size = self.size().unwrap_or(WindowSize {
            rows: 24,
            columns: 80,
        });
        let (input, output) = (duplicate(&self.slave)?, duplicate(&self.slave)?);
        Ok(Local::Terminal {
            input,
            output,
            size,
        })
    }
}

fn open(size: Option<WindowSize>) -> io::Result<(OwnedFd, OwnedFd, Vec<u8>)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
    // The guest's own terminal does what a terminal does; this one passes on.
    terminal::make_raw(&slave)?;
    if let Some(size) = size {
        let size = rustix::termios::Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&slave, size)?;
    }
    rustix::process::ioctl_tiocsctty(&slave)?;
    Ok((master, slave, name.into_bytes()))
}
