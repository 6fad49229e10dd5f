//! The terminal this process was started on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bulkhead_protocol::WindowSize;
use rustix::termios::{OptionalActions, Termios};

use super::{Local, duplicate};

/// The size a terminal is said to have when nobody knows.
const FALLBACK: WindowSize = WindowSize {
    rows: 24,
    columns: 80,
};

/// A terminal whose keys all go to the guest, until this is dropped.
#[derive(Debug)]
pub(crate) struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Switches the terminal on standard input to raw mode; `None` if there
    /// is no terminal there.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !rustix::termios::isatty(&stdin) {
            return Ok(None);
        }
        let terminal = stdin.as_fd().try_clone_to_owned()?;
        let before = make_raw(&terminal)?;
        Ok(Some(Self { terminal, before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that has gone needs no restoring.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Switches a terminal to raw mode, and returns the mode it was in.
pub(crate) fn make_raw(terminal: impl AsFd) -> io::Result<Termios> {
    let before = rustix::termios::tcgetattr(&terminal)?;
    let mut raw = before.clone();
    raw.make_raw();
    rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
    Ok(before)
}

/// The size of a terminal, if it is one and knows.
pub(crate) fn size_of(terminal: impl AsFd) -> Option<WindowSize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    let size = WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    };
    (size.rows != 0 && size.columns != 0).then_some(size)
}

/// This process's standard input and output as a terminal. `wanted` is the
/// size that the configuration asks for.
pub(crate) fn inherited(wanted: Option<WindowSize>) -> io::Result<Local> {
    let input = duplicate(io::stdin())?;
    let output = duplicate(io::stdout())?;
    let size = size_of(&input)
        .or_else(|| size_of(&output))
        .or(wanted)
        .unwrap_or(FALLBACK);
    Ok(Local::Terminal {
        input,
        output,
        size,
    })
}
