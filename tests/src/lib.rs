//! Fixtures for the end-to-end tests, which boot real guests with real
//! containers in them.
//!
//! A test makes a [`World`], takes a [`Bundle`] from it, runs something and
//! looks at what came out. When the world goes, it checks that nothing was
//! left behind: no process, no mount, no cgroup, no file.
//!
//! The tests need a KVM that can run guests. `cargo xtask test` finds one, or
//! makes one by emulation; without it they fail and say so.
#![forbid(unsafe_code)]

mod bundle;
pub mod conformance;
pub mod cpio;
mod descriptor_socket;
mod engine;
pub mod file_operations;
mod leftovers;
pub mod machine_code;
mod outcome;
mod systemd;
mod terminal;
mod world;

pub use bundle::{Bundle, PROBE};
pub use descriptor_socket::DescriptorSocket;
pub use engine::Engine;
pub use outcome::{Outcome, Running};
pub use systemd::Systemd;
pub use terminal::{ConsoleSocket, Terminal};
pub use world::{World, artifacts};

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen. Emulated hosts are
/// some fifty times slower than real ones.
pub const PATIENCE: Duration = Duration::from_mins(5);

/// Polls until `condition` holds.
///
/// # Panics
/// If it does not hold within [`PATIENCE`].
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_until_within(PATIENCE, what, condition);
}

/// Polls until `condition` holds, for something that is known to take longer.
///
/// # Panics
/// If it does not hold within `patience`.
pub fn wait_until_within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
