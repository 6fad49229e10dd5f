//! The host's end of a pair of queues.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// One queue of a tap. It does not block.
#[derive(Debug)]
pub struct Tap(File);

impl Tap {
    /// `tap` is one with virtio headers of 12 bytes (`IFF_VNET_HDR`,
    /// `TUNSETVNETHDRSZ`), and with checksum and TSO offloads (`TUNSETOFFLOAD`).
    pub fn new(tap: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&tap, true)?;
        Ok(Self(tap.into()))
    }

    /// Another handle on the same queue.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Tap {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.0.write(frame)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
