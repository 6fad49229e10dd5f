//! The agent's own standard streams. New processes count on their being open,
//! and nothing else may ever have their numbers: messages go there.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::fcntl_getfd;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};

/// For each standard stream, in order, whether it is meant.
pub(crate) type Which = [bool; 3];

/// Occupies the numbers of the standard streams that are not open: a guest
/// without a console starts its first process so. Returns which these are.
pub(crate) fn hold_missing() -> io::Result<Which> {
    let missing = [stdin(), stdout(), stderr()].map(|stream| fcntl_getfd(stream).is_err());
    for _ in missing.into_iter().filter(|missing| *missing) {
        // The lowest number that is free, so one of these. There is no
        // /dev/null yet; this can be neither read nor written.
        let _ = open("/", OFlags::PATH, Mode::empty())?.into_raw_fd();
    }
    Ok(missing)
}

/// Makes these streams `/dev/null`.
pub(crate) fn open_null(which: Which) -> io::Result<()> {
    if which == [false; 3] {
        return Ok(());
    }
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    Ok(replace(which, null)?)
}

/// Makes one descriptor each of these streams.
pub(crate) fn replace(which: Which, with: impl AsFd) -> rustix::io::Result<()> {
    set(which.map(|is_meant| is_meant.then_some(with.as_fd())))
}

/// Makes descriptors the standard streams; where there is none, nothing changes.
pub(crate) fn set(streams: [Option<BorrowedFd<'_>>; 3]) -> rustix::io::Result<()> {
    let [stdin, stdout, stderr] = streams;
    stdin.map_or(Ok(()), dup2_stdin)?;
    stdout.map_or(Ok(()), dup2_stdout)?;
    stderr.map_or(Ok(()), dup2_stderr)
}
