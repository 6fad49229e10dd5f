//! Virtio devices and the MMIO transport that carries them.

pub mod device;
pub mod fs;
pub mod interrupt;
pub mod mmio;
pub mod net;
pub mod rng;
pub mod vsock;
