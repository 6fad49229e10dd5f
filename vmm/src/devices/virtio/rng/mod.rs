//! The entropy device (virtio 1.3, 5.4).

mod device;
mod queue_handler;

pub use device::Rng;
