//! End-to-end tests: real guests, real containers.
//!
//! `core_set` is what every kind of host must pass, the slow emulated ones
//! included; the other modules go further, one subject each.
#![forbid(unsafe_code)]

mod bad_input;
mod bench;
mod cgroup;
mod cgroup_systemd;
mod cgroup_v1;
mod core_set;
mod docker;
mod exec;
mod faults;
mod files;
mod guest_faults;
mod hooks;
mod lifecycle;
mod network;
mod podman;
mod process;
mod signals;
mod stdio;
mod terminal;
mod upkeep;
