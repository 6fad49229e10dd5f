//! What `cargo xtask bench storage` runs in the emulated host, and what that runs in
//! containers.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use bulkhead_benches::storage;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Compare two runtimes, and print a JSON object
    Measure {
        /// Bulkhead
        #[arg(long)]
        bulkhead: PathBuf,
        /// The other one
        #[arg(long)]
        reference: PathBuf,
        /// A root file system with `gcc`, `git`, `make` and `tar`
        #[arg(long)]
        system: PathBuf,
    },
    /// Work in a directory, and print how long that took
    Work {
        /// The directory
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse().part) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => bulkhead_benches::fail(error.as_ref()),
    }
}

fn run(part: &Part) -> Result<(), Box<dyn Error>> {
    match part {
        Part::Work { directory } => storage::work(directory)?,
        Part::Measure {
            bulkhead,
            reference,
            system,
        } => {
            let directory = tempfile::tempdir()?;
            let program = std::env::current_exe()?;
            let report = storage::measure(bulkhead, reference, &program, system, directory.path())?;
            println!("{}", serde_json::to_string(&report)?);
        }
    }
    Ok(())
}
