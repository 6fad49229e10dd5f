//! `bulkhead bench`: measures starts of containers on this machine.

mod output;
mod startup;

use clap::Subcommand;

use crate::error::Error;
use crate::logging::{self, Format};

/// Arguments of `bench`.
#[derive(Debug, clap::Parser)]
#[command(
    name = "bulkhead bench",
    bin_name = "bulkhead bench",
    about = "Measures starts of containers on this machine",
    max_term_width = 100
)]
pub(crate) struct Args {
    #[command(subcommand)]
    figure: Figure,
}

#[derive(Debug, Subcommand)]
enum Figure {
    /// Time to the first instruction, to the first output and to the exit; `exec`,
    /// teardown, memory, many starts at once and beside running pods
    Startup(startup::Args),
}

/// Measures; the exit code is 0 if nothing is missing from the report.
pub(crate) fn execute(args: Args) -> Result<u8, Error> {
    logging::init(None, Format::Text, false)?;
    match args.figure {
        Figure::Startup(args) => startup::execute(args),
    }
}
