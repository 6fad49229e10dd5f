//! The network device (virtio 1.3, 5.1): pairs of queues, and a tap on the host's
//! side of each, which speaks the same headers.
//!
//! A single pair is served on the main event loop. Several have a worker's thread
//! each, and the driver has to say by the control queue that it uses all of them.

mod buffers;
mod control;
mod device;
mod frame;
mod queue_handler;

pub use device::Net;

#[cfg(test)]
mod tests;
