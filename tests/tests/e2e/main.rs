//! End-to-end tests: real guests, real containers.
//!
//! `core_set` is what every kind of host must pass, the slow emulated ones
//! included; the other modules go further, one subject each.
#![forbid(unsafe_code)]

mod bad_input;
mod core_set;
mod exec;
mod faults;
mod files;
mod guest_faults;
mod lifecycle;
mod process;
mod signals;
mod stdio;
mod terminal;
