//! Virtio devices and the MMIO transport that carries them.

pub mod device;
pub mod interrupt;
pub mod vsock;
