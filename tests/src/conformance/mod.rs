//! What the OCI runtime specification (1.2) asks of every runtime, a case for each
//! point of it.
//!
//! A case drives a runtime by its command line alone, and looks at what comes out from
//! inside of a container (a shell script in busybox) and from outside (what the runtime
//! says, what is on the host). It knows nothing of the runtime, so that it can be held
//! against those that are known to be right.
//!
//! Cases that carry the name of a program of the specification's own validation suite
//! are about the same point.

mod bench;
mod command;
mod config;
mod container;

mod console;
mod devices;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod root;
mod security;
mod state;
mod user_namespace;

pub use bench::Runtime;

use std::thread;

use anyhow::{Result, bail};

use bench::Bench;

/// What a case does: it fails with the reason.
type Check = fn(&Bench) -> Result<()>;

/// One point of the specification.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    check: Check,
}

impl Case {
    /// Whether a runtime does as the specification says; if not, how it fails.
    pub fn hold_against(self, runtime: &Runtime) -> Result<()> {
        // A thread, for fixtures panic.
        thread::scope(|scope| {
            let check = scope.spawn(|| (self.check)(&Bench::new(runtime)?));
            check.join().unwrap_or_else(|panic| {
                let message = panic.downcast_ref::<String>().map(String::as_str);
                let message = message.or(panic.downcast_ref::<&str>().copied());
                bail!("panic: {}", message.unwrap_or_default())
            })
        })
    }
}

/// All cases, in the order of the specification. Each has a name of its own.
pub fn cases() -> impl Iterator<Item = Case> {
    let areas: [&[(&'static str, Check)]; 12] = [
        state::CASES,
        lifecycle::CASES,
        root::CASES,
        mounts::CASES,
        process::CASES,
        console::CASES,
        hooks::CASES,
        namespaces::CASES,
        user_namespace::CASES,
        devices::CASES,
        resources::CASES,
        security::CASES,
    ];
    let all = areas.into_iter().flatten();
    all.map(|&(name, check)| Case { name, check })
}
