//! The socket device (virtio 1.3, 5.10), in user space.
//!
//! The host's side is a Unix socket. A program on the host reaches port `P` of
//! the guest through the device's socket: it writes `CONNECT P\n` and, when
//! the guest has accepted, reads `OK <host port>\n`. A program in the guest
//! that connects to port `P` of the host reaches who listens at the path of
//! that socket with `_P` appended.
//!
//! Inside, from the guest on: `queue_handler` takes packets off the queues
//! (`buffer`, `packet`) and gives them to the `muxer`, which finds the
//! `connection` that each belongs to, or answers with one of the `resets`. Of a
//! connection, `from_guest` writes data straight from guest memory to its
//! `stream` of the `backend`; what that does not take waits in the `backlog`,
//! whose size `credit` bounds. `to_guest` reads from the stream straight into
//! guest memory; connections take turns at it, a packet each.

mod backend;
mod backlog;
mod buffer;
mod connection;
mod credit;
mod device;
mod from_guest;
mod handshake;
mod muxer;
mod packet;
mod queue_handler;
mod resets;
mod stream;
mod to_guest;

pub use device::{ListenError, Vsock};

#[cfg(test)]
mod tests;
