//! The channel between the agent and a process that does not execute its
//! command yet: a socket pair that keeps messages apart. It closes when
//! `execve` succeeds, which is how the agent learns of that.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_protocol::RemoteError;
use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// What the process tells the agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The terminal's master side comes with this message.
    Terminal,
    /// Everything is set up; the process waits to be told to go on.
    Ready,
    /// It failed, and the process ends.
    Failed(RemoteError),
}

/// Longest error message, in bytes.
const MAX_MESSAGE: usize = 4 << 10;
/// Longest report: JSON needs at most six bytes for one.
pub(crate) const MAX_REPORT: usize = 6 * MAX_MESSAGE + 256;

/// The agent's and the process's end of a new channel. The agent's does not
/// block.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (agent, process) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::ioctl_fionbio(&agent, true)?;
    Ok((agent, process))
}

/// The process's end.
#[derive(Debug)]
pub(super) struct Control(pub(super) OwnedFd);

impl Control {
    /// Waits until the agent says to go on; false if it never will.
    pub(super) fn wait(&self) -> bool {
        loop {
            match rustix::io::read(&self.0, &mut [0]) {
                Err(rustix::io::Errno::INTR) => {}
                result => return result == Ok(1),
            }
        }
    }

    pub(super) fn send_ready(&self) {
        self.send(&Report::Ready);
    }

    pub(super) fn send_failure(&self, error: RemoteError) {
        self.send(&Report::Failed(shorten(error)));
    }

    /// Plain `write`, which every seccomp filter allows. If the agent cannot
    /// be told there is nobody else to tell.
    fn send(&self, report: &Report) {
        let _ = rustix::io::write(&self.0, &encode(report));
    }

    pub(super) fn send_terminal(&self, master: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [master];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let text = encode(&Report::Terminal);
        sendmsg(
            self.0.as_fd(),
            &[IoSlice::new(&text)],
            &mut ancillary,
            SendFlags::empty(),
        )?;
        Ok(())
    }
}

fn encode(report: &Report) -> Vec<u8> {
    serde_json::to_vec(report).unwrap_or_default()
}

/// Cuts a message that would not fit: it would have to name a very long path.
fn shorten(mut error: RemoteError) -> RemoteError {
    if error.message.len() > MAX_MESSAGE {
        error.message = error.message.chars().take(MAX_MESSAGE / 4).collect();
    }
    error
}
