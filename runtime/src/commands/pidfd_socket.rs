//! Pidfds for an engine.

use std::io;
use std::path::Path;

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::descriptor_socket;

/// For which process one is, in runc's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A container's first.
    Container,
    /// A further one in it.
    Exec,
}

/// Sends this process's pidfd to a socket, if one is asked for.
pub(super) fn send(socket: Option<&Path>, kind: Kind) -> io::Result<()> {
    let Some(socket) = socket else {
        return Ok(());
    };
    let word = match kind {
        Kind::Container => "standard",
        Kind::Exec => "setns",
    };
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty())?;
    descriptor_socket::send(socket, pidfd, word.as_bytes())
}
