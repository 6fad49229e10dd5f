//! Terminals, seen from the side of who looks at them.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::PATIENCE;
use crate::descriptor_socket::DescriptorSocket;

/// The master side of a terminal.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    shown: String,
}

impl Terminal {
    /// Starts a command on a terminal of its own of that many rows and columns.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn start(command: &Command, size: (u16, u16)) -> (Self, std::process::Child) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).expect("a pseudo-terminal");
        rustix::pty::unlockpt(&master).expect("ours");
        let name = rustix::pty::ptsname(&master, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("ours");
        let terminal = Self::new(master);
        terminal.resize(size);
        let mut session = Command::new("setsid");
        session
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))))
            .stdin(slave.try_clone().expect("a descriptor"))
            .stdout(slave.try_clone().expect("a descriptor"))
            .stderr(slave);
        (terminal, session.spawn().expect("setsid can be started"))
    }

    fn new(master: OwnedFd) -> Self {
        Self {
            master: master.into(),
            shown: String::new(),
        }
    }

    /// Changes its size, which the processes on it are told.
    ///
    /// # Panics
    /// If it is gone.
    pub fn resize(&self, (rows, columns): (u16, u16)) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&self.master, size).expect("it is there");
    }

    /// Types.
    ///
    /// # Panics
    /// If it is gone.
    pub fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("it is there");
    }

    /// Waits until it shows `text`.
    ///
    /// # Panics
    /// If it is hung up on before that, or shows something else for longer than
    /// [`PATIENCE`].
    pub fn wait_for(&mut self, text: &str) {
        let mut chunk = [0; 4096];
        let patience = Timespec::try_from(PATIENCE).expect("a few minutes");
        while !self.shown.contains(text) {
            let mut readable = [PollFd::new(&self.master, PollFlags::IN)];
            let ready = rustix::event::poll(&mut readable, Some(&patience));
            assert_ne!(ready, Ok(0), "no {text:?} in time: {:?}", self.shown);
            match self.master.read(&mut chunk) {
                Ok(n) if n > 0 => self.shown += &String::from_utf8_lossy(&chunk[..n]),
                end => panic!("no {text:?} on the terminal ({end:?}): {:?}", self.shown),
            }
        }
    }
}

/// Where an engine takes terminals, as given to `--console-socket`.
#[derive(Debug)]
pub struct ConsoleSocket(DescriptorSocket);

impl ConsoleSocket {
    /// Listens at `path`.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn listen(path: PathBuf) -> Self {
        Self(DescriptorSocket::listen(path))
    }

    /// Where it is.
    ///
    /// # Panics
    /// If the path is not text.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// Takes a terminal.
    ///
    /// # Panics
    /// If something else comes, or nothing within [`PATIENCE`](crate::PATIENCE).
    pub fn take(&self) -> Terminal {
        Terminal::new(self.0.take().0)
    }
}
