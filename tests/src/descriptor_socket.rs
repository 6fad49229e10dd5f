//! Where an engine takes descriptors.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::PATIENCE;

/// A socket that descriptors come in by.
#[derive(Debug)]
pub struct DescriptorSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl DescriptorSocket {
    /// Listens at `path`.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn listen(path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).expect("a path for a socket");
        Self { path, listener }
    }

    /// Where it is.
    ///
    /// # Panics
    /// If the path is not text.
    pub fn path(&self) -> &str {
        Path::to_str(&self.path).expect("UTF-8")
    }

    /// Takes a descriptor, and what was said with it.
    ///
    /// # Panics
    /// If something else comes, or nothing within [`PATIENCE`].
    pub fn take(&self) -> (OwnedFd, String) {
        let patience = Timespec::try_from(PATIENCE).expect("a few minutes");
        let mut readable = [PollFd::new(&self.listener, PollFlags::IN)];
        let ready = rustix::event::poll(&mut readable, Some(&patience));
        assert_ne!(ready, Ok(0), "no descriptor in time");
        let (stream, _) = self.listener.accept().expect("a connection");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut message = [0; 64];
        let mut parts = [IoSliceMut::new(&mut message)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(&stream, &mut parts, &mut ancillary, flags);
        let len = received.expect("a message").bytes;
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let message = String::from_utf8_lossy(&message[..len]).into_owned();
        (descriptor.expect("a descriptor"), message)
    }
}
