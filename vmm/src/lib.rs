//! A small virtual machine monitor on KVM: a configuration goes in, a running
//! microVM comes out. It knows nothing of containers.

#![deny(unsafe_code)]

pub mod arch;
pub mod config;
pub mod control;
pub mod devices;
pub mod exit;
pub mod kernel;
pub mod memory;
