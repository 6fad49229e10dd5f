//! What the guest finds on its buses.

pub mod bus;
pub mod cmos;
pub mod console;
pub mod power;
pub mod reset;
pub mod serial;
pub mod virtio;
