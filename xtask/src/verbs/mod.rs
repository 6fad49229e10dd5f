//! The verbs of `cargo xtask`, a module each.

mod build;
mod host;
mod kernel;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Build the binary, the guest kernel and the initramfs into target/dist
    Build(build::Arguments),
    /// Build the guest kernel alone
    Kernel(kernel::Arguments),
    /// Run a command in an emulated machine that has real KVM
    Host(host::Arguments),
}

impl Verb {
    /// Carries the verb out; the result is the exit code.
    pub(crate) fn run(self) -> Result<u8> {
        match self {
            Self::Build(arguments) => build::run(&arguments),
            Self::Kernel(arguments) => kernel::run(&arguments),
            Self::Host(arguments) => host::run(&arguments),
        }
    }
}
