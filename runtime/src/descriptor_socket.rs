//! Descriptors for an engine: by a Unix socket that it listens on, as with runc.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// Sends `descriptor` with a message to whoever listens on `socket`.
pub(crate) fn send(socket: &Path, descriptor: impl AsFd, message: &[u8]) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let parts = [IoSlice::new(message)];
    rustix::net::sendmsg(&stream, &parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
