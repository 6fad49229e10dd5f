//! The file system device (virtio 1.3, 5.11), whose work a vhost-user backend
//! in another process does.
//!
//! The VMM only mediates: `device` is what the guest's driver negotiates
//! with, `backend` speaks to the other process. After activation the two
//! share guest memory, the queues and the interrupt, and all that is left to
//! do is to notice if the backend goes away (`watch`).

mod backend;
mod device;
mod watch;

pub use device::Fs;

#[cfg(test)]
mod tests;
