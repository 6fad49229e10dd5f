//! Signals: those this process passes on, and their names.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that are for the container, or, as `SIGWINCH`, about its terminal.
/// The others are this process's own business, or cannot be caught.
const PASSED_ON: [Signal; 11] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::SIGCONT,
    Signal::SIGWINCH,
    Signal::SIGIO,
    Signal::SIGPWR,
];

/// Number of `SIGWINCH`.
pub(crate) const WINDOW_CHANGED: u8 = Signal::SIGWINCH as u8;

/// Number of `SIGKILL`.
pub(crate) const KILL: u8 = Signal::SIGKILL as u8;

/// Whether a signal, sent to somebody who does not handle it, asks for an end
/// of what is going on.
pub(crate) fn asks_for_end(signal: u8) -> bool {
    [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ]
    .into_iter()
    .any(|end| end as u8 == signal)
}

/// Signals sent to this process, as something to read.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Takes delivery of the signals from here on. Threads started later
    /// leave them alone too.
    pub(crate) fn catch() -> io::Result<Self> {
        let set = SigSet::from_iter(PASSED_ON);
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&set, flags)?))
    }

    /// The number of a signal that has arrived.
    pub(crate) fn next(&self) -> io::Result<Option<u8>> {
        Ok(self.0.read_signal()?.map(|info| info.ssi_signo as u8))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Has reads from the terminal fail (`EIO`, an end of input) while this process
/// is in the terminal's background, instead of stopping it and all it relays:
/// input is read ahead, whether or not the container wants any.
pub(crate) fn refuse_to_stop_for_input() -> io::Result<()> {
    Ok(SigSet::from(Signal::SIGTTIN).thread_block()?)
}

/// Undoes what a parent process that catches signals has left blocked.
pub(crate) fn unblock() -> io::Result<()> {
    Ok(SigSet::from_iter(PASSED_ON).thread_unblock()?)
}

/// The text names no signal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a signal; give a name like TERM, or a number from 1 to {MAX}")]
pub(crate) struct UnknownSignal {
    text: String,
}

/// Highest signal number of Linux.
const MAX: u8 = 64;

/// First of the real-time signals.
const REAL_TIME: u8 = 34;

/// Reads a signal as `kill(1)` does: a number, or a name in any case with or
/// without `SIG`; real-time signals as `RTMIN+n` and `RTMAX-n`.
pub(crate) fn parse(text: &str) -> Result<u8, UnknownSignal> {
    let unknown = || UnknownSignal {
        text: text.to_owned(),
    };
    if let Ok(number) = text.parse::<u8>() {
        return if (1..=MAX).contains(&number) {
            Ok(number)
        } else {
            Err(unknown())
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = parse_real_time(name) {
        return Ok(number);
    }
    format!("SIG{name}")
        .parse::<Signal>()
        .map(|signal| signal as u8)
        .map_err(|_| unknown())
}

fn parse_real_time(name: &str) -> Option<u8> {
    let number = if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = if offset.is_empty() {
            0
        } else {
            offset.strip_prefix('+')?.parse().ok()?
        };
        REAL_TIME.checked_add(offset)?
    } else {
        let offset = name.strip_prefix("RTMAX")?;
        let offset = if offset.is_empty() {
            0
        } else {
            offset.strip_prefix('-')?.parse().ok()?
        };
        MAX.checked_sub(offset)?
    };
    (REAL_TIME..=MAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_kill() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("9", 9),
            ("64", 64),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for text in [
            "", "0", "65", "-1", "SIG", "NOPE", "RTMIN+31", "RTMAX-31", "RTMIN3",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
