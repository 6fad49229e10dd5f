//! The verbs of `cargo xtask`, a module each.

mod host;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Run a command in an emulated machine that has real KVM
    Host(host::Arguments),
}

impl Verb {
    /// Carries the verb out; the result is the exit code.
    pub(crate) fn run(self) -> Result<u8> {
        match self {
            Self::Host(arguments) => host::run(&arguments),
        }
    }
}
