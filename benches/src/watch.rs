//! Waiting that ends: at a limit, or when a signal asks for it.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level::pipe};

/// Signals that ask for an end, made something to wait for.
#[derive(Debug)]
pub struct Interrupt {
    /// Readable once a signal has come; never read.
    arrived: UnixStream,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Has `SIGHUP`, `SIGINT` and `SIGTERM` noted from now on, instead of ending
    /// this process. Programs that it starts are not affected.
    pub fn catch() -> io::Result<Self> {
        let (arrived, sender) = UnixStream::pair()?;
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGHUP, SIGINT, SIGTERM] {
            // Noted first: who sees the one finds the other.
            flag::register_usize(number, Arc::clone(&signal), number as usize)?;
            pipe::register(number, sender.try_clone()?)?;
        }
        Ok(Self { arrived, signal })
    }

    /// One that belongs to no signal.
    #[cfg(test)]
    pub(crate) fn untied() -> (Self, Raise) {
        let (arrived, sender) = UnixStream::pair().expect("a pair of sockets");
        let signal = Arc::new(AtomicUsize::new(0));
        let raise = Raise {
            sender,
            signal: Arc::clone(&signal),
        };
        (Self { arrived, signal }, raise)
    }

    /// The number of the signal that came last, if any did.
    pub fn signal(&self) -> Option<u8> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            number => u8::try_from(number).ok(),
        }
    }
}

/// The other end of an [`Interrupt`] that belongs to no signal.
#[cfg(test)]
pub(crate) struct Raise {
    sender: UnixStream,
    signal: Arc<AtomicUsize>,
}

#[cfg(test)]
impl Raise {
    pub(crate) fn signal(&mut self, number: u8) {
        use std::io::Write;

        self.signal.store(number.into(), Ordering::SeqCst);
        self.sender.write_all(b"x").expect("the interrupt is there");
    }
}

/// Why nothing came.
#[derive(Debug)]
pub(crate) enum Halt {
    Interrupted,
    TimedOut,
    Failed(io::Error),
}

/// How long anything is waited for. A clone waits alike.
#[derive(Debug, Clone)]
pub struct Watch {
    patience: Duration,
    interrupt: Option<Arc<Interrupt>>,
}

impl Watch {
    /// Waits for each thing at most for `patience`, and not at all after an
    /// interrupt.
    pub fn new(patience: Duration, interrupt: Option<Arc<Interrupt>>) -> Self {
        Self {
            patience,
            interrupt,
        }
    }

    /// The same, for what has to be done in any case.
    pub(crate) fn without_interrupt(&self) -> Self {
        Self::new(self.patience, None)
    }

    /// The signal that asks for an end, if one has come.
    pub fn signal(&self) -> Option<u8> {
        self.interrupt.as_ref()?.signal()
    }

    /// Waits until there is something to read, or the other side is gone.
    pub(crate) fn readable(&self, fd: BorrowedFd<'_>) -> Result<(), Halt> {
        let deadline = Instant::now() + self.patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: left.as_secs().cast_signed(),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = vec![PollFd::from_borrowed_fd(fd, PollFlags::IN)];
            if let Some(interrupt) = &self.interrupt {
                fds.push(PollFd::new(&interrupt.arrived, PollFlags::IN));
            }
            match poll(&mut fds, Some(&left)) {
                Ok(0) => return Err(Halt::TimedOut),
                Ok(_) if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) => {
                    return Err(Halt::Interrupted);
                }
                Ok(_) => return Ok(()),
                // By a signal; the next round sees it.
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Halt::Failed(error.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    fn watch(interrupt: Option<Interrupt>) -> Watch {
        Watch::new(Duration::from_millis(20), interrupt.map(Arc::new))
    }

    #[test]
    fn waiting_ends_at_the_limit_or_with_something_to_read() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let waited = watch(None).readable(ours.as_fd());
        assert!(matches!(waited, Err(Halt::TimedOut)), "{waited:?}");
        theirs.write_all(b"x").unwrap();
        assert!(watch(None).readable(ours.as_fd()).is_ok());
    }

    #[test]
    fn interrupt_counts_more_than_what_there_is_to_read() {
        let (interrupt, mut raise) = Interrupt::untied();
        let watch = watch(Some(interrupt));
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"x").unwrap();
        assert!(watch.readable(ours.as_fd()).is_ok());
        assert_eq!(watch.signal(), None);
        raise.signal(15);
        for _ in 0..2 {
            let waited = watch.readable(ours.as_fd());
            assert!(matches!(waited, Err(Halt::Interrupted)), "{waited:?}");
        }
        assert_eq!(watch.signal(), Some(15));
    }
}
