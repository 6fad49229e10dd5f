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

    /// Has the kernel put frames into this queue, or leave it out. It fails for
    /// anything but a tap of several queues.
    #[allow(unsafe_code)]
    pub(super) fn set_attached(&self, attached: bool) -> io::Result<()> {
        // SAFETY: an `ifreq` is plain data, for which zeros are a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let flag = if attached {
            libc::IFF_ATTACH_QUEUE
        } else {
            libc::IFF_DETACH_QUEUE
        };
        request.ifr_ifru.ifru_flags = flag as libc::c_short;
        // SAFETY: the driver reads an `ifreq`, which outlives the call.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETQUEUE, &raw const request) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
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
