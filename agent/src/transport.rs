//! How the agent and the host reach each other.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, connect, listen, socket,
};

use crate::sys;

/// The host answers at once or is not scheduled; how long a guest is waited
/// for is for the host to decide. Nothing is dialled twice.
const CONNECT_TIMEOUT_SECONDS: u32 = 3600;

/// Stream connections by port number.
pub trait Transport {
    /// Starts to connect to a port of the host. The socket does not block; it
    /// is writable when it is connected or has failed to.
    fn dial(&self, port: u32) -> io::Result<OwnedFd>;

    /// Listens on a port of the guest. The socket does not block.
    fn listen(&self, port: u32) -> io::Result<OwnedFd>;
}

/// virtio-vsock, as it is in a guest.
#[derive(Debug, Clone, Copy)]
pub struct Vsock;

impl Transport for Vsock {
    fn dial(&self, port: u32) -> io::Result<OwnedFd> {
        let socket = vsock_socket()?;
        sys::set_vsock_connect_timeout(socket.as_fd(), CONNECT_TIMEOUT_SECONDS)?;
        match connect(
            socket.as_raw_fd(),
            &VsockAddr::new(libc::VMADDR_CID_HOST, port),
        ) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
            Err(error) => Err(error.into()),
        }
    }

    fn listen(&self, port: u32) -> io::Result<OwnedFd> {
        let socket = vsock_socket()?;
        bind(
            socket.as_raw_fd(),
            &VsockAddr::new(libc::VMADDR_CID_ANY, port),
        )?;
        listen(&socket, Backlog::MAXCONN)?;
        Ok(socket)
    }
}

fn vsock_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Vsock, SockType::Stream, flags, None)?)
}
