//! Descriptors that this process was started with.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, FdFlags};

/// The number of a descriptor that a configuration names and this process
/// inherited: not one of the standard three, and named only once.
#[derive(Debug, PartialEq, Eq)]
pub struct InheritedFd(RawFd);

impl InheritedFd {
    /// The lowest number that can be given away.
    pub const MIN: RawFd = 3;

    /// `fd` must be at least [`MIN`](Self::MIN), and nobody else's.
    pub(crate) fn new(fd: RawFd) -> Self {
        debug_assert!(fd >= Self::MIN);
        Self(fd)
    }

    /// Its number.
    pub fn number(&self) -> RawFd {
        self.0
    }

    /// Takes the descriptor over, and keeps it from processes to come. Fails if
    /// there is none of that number.
    #[allow(unsafe_code)]
    pub fn take(self) -> Result<OwnedFd, Errno> {
        // SAFETY: the configuration says that the process that started this one
        // left the descriptor to us, and `VmSpec` hands each number out once.
        // That it is open at all is checked before anything else is done to it.
        let fd = unsafe {
            if libc::fcntl(self.0, libc::F_GETFD) == -1 {
                return Err(Errno::BADF);
            }
            OwnedFd::from_raw_fd(self.0)
        };
        rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
        Ok(fd)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn open_descriptor_is_taken() {
        let raw = File::open("/dev/null").unwrap().into_raw_fd();
        assert_eq!(InheritedFd::new(raw).take().unwrap().as_raw_fd(), raw);
    }

    #[test]
    fn closed_descriptor_is_refused() {
        assert_eq!(InheritedFd::new(1_000_000).take().unwrap_err(), Errno::BADF);
    }
}
