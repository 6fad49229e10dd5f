//! Waiting for whichever of several descriptors is ready first.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

/// Waits until a descriptor has something to read, or has been hung up on;
/// `false` if that did not happen in time.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).ok();
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    // An interrupted wait is a shorter one.
    rustix::event::poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
}

/// Descriptors to wait for, each with the name its owner knows it by.
#[derive(Debug)]
pub(crate) struct Waiter<'fd, T> {
    names: Vec<T>,
    fds: Vec<PollFd<'fd>>,
}

impl<'fd, T: Copy> Waiter<'fd, T> {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            names: Vec::new(),
            fds: Vec::new(),
        }
    }

    /// Adds a descriptor that is waited for until it can be read.
    pub(crate) fn readable(&mut self, name: T, fd: BorrowedFd<'fd>) {
        self.add(name, fd, PollFlags::IN);
    }

    /// Adds a descriptor that is waited for until it can be read or written.
    pub(crate) fn readable_or_writable(&mut self, name: T, fd: BorrowedFd<'fd>) {
        self.add(name, fd, PollFlags::IN | PollFlags::OUT);
    }

    fn add(&mut self, name: T, fd: BorrowedFd<'fd>, flags: PollFlags) {
        self.names.push(name);
        self.fds.push(PollFd::from_borrowed_fd(fd, flags));
    }

    /// Waits until at least one is ready, and names those that are, in the
    /// order in which they were added; none if `deadline` passes first.
    pub(crate) fn wait(mut self, deadline: Option<Instant>) -> io::Result<Vec<T>> {
        loop {
            let timeout = deadline.map(|at| {
                let left = at.saturating_duration_since(Instant::now());
                Timespec {
                    tv_sec: left.as_secs().cast_signed(),
                    tv_nsec: left.subsec_nanos().into(),
                }
            });
            match rustix::event::poll(&mut self.fds, timeout.as_ref()) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let ready = self
            .names
            .iter()
            .zip(&self.fds)
            .filter(|(_, fd)| is_ready(fd));
        Ok(ready.map(|(name, _)| *name).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_is_ready_is_named() {
        let (reader, mut writer) = io::pipe().unwrap();
        let (idle, _keep) = io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let mut waiter = Waiter::new();
        waiter.readable('a', idle.as_fd());
        waiter.readable('b', reader.as_fd());
        assert_eq!(waiter.wait(None).unwrap(), ['b']);
    }

    #[test]
    fn deadline_ends_the_wait() {
        let (idle, _keep) = io::pipe().unwrap();
        let mut waiter = Waiter::new();
        waiter.readable((), idle.as_fd());
        assert!(waiter.wait(Some(Instant::now())).unwrap().is_empty());
    }
}
