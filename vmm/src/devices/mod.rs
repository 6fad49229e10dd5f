//! What the guest finds on its buses.

pub mod virtio;
