//! The network device (virtio 1.3, 5.1): one pair of queues, and a tap on the
//! host's side, which speaks the same headers.

mod buffers;
mod device;
mod frame;
mod queue_handler;

pub use device::Net;

#[cfg(test)]
mod tests;
