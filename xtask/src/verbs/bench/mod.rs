//! `cargo xtask bench`: figures that are the same on every machine.

mod counted;
mod startup;
mod storage;

use anyhow::Result;
use clap::Subcommand;

pub(super) use counted::PLATFORM;
pub(super) use startup::check as check_startup;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    figure: Figure,
}

#[derive(Subcommand)]
enum Figure {
    /// From the exec of `bulkhead run` to the container's first instruction, by
    /// phase; `exec`, teardown, and the memory of idle containers
    Startup(startup::Arguments),
    /// Work on shared files, beside the same under runc
    Storage(storage::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    match &arguments.figure {
        Figure::Startup(arguments) => startup::run(arguments),
        Figure::Storage(arguments) => storage::run(arguments),
    }
}
