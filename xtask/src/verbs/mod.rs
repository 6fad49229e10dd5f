//! The verbs of `cargo xtask`, a module each.

mod bench;
mod build;
mod conformance;
mod demo;
mod format;
mod fuzz;
mod host;
mod kernel;
mod lint;
mod test;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Build the binary, the guest kernel and the initramfs into target/dist
    Build(build::Arguments),
    /// Build the guest kernel alone
    Kernel(kernel::Arguments),
    /// Run a container in a microVM, from nothing
    Demo(demo::Arguments),
    #[command(hide = true)]
    DemoInside(demo::InsideArguments),
    /// Run everything that must be green
    Test(test::Arguments),
    /// Look at the code without running it
    Lint(lint::Arguments),
    /// Look for inputs that the parsers of untrusted bytes do not bear
    Fuzz(fuzz::Arguments),
    /// Hold Bulkhead against the OCI runtime specification, beside runc and crun
    Conformance(conformance::Arguments),
    /// Measure
    Bench(bench::Arguments),
    /// Run a command in an emulated machine that has real KVM
    Host(host::Arguments),
}

impl Verb {
    /// Carries the verb out; the result is the exit code.
    pub(crate) fn run(self) -> Result<u8> {
        match self {
            Self::Build(arguments) => build::run(&arguments),
            Self::Kernel(arguments) => kernel::run(&arguments),
            Self::Demo(arguments) => demo::run(&arguments),
            Self::DemoInside(arguments) => demo::run_inside(&arguments),
            Self::Test(arguments) => test::run(&arguments),
            Self::Lint(arguments) => lint::run(&arguments),
            Self::Fuzz(arguments) => fuzz::run(&arguments),
            Self::Conformance(arguments) => conformance::run(&arguments),
            Self::Bench(arguments) => bench::run(&arguments),
            Self::Host(arguments) => host::run(&arguments),
        }
    }
}
