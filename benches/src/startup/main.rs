//! How long from the exec of `bulkhead run` to the first instruction of the
//! container's own process, and what an idle container costs in memory.
//!
//! `cargo xtask bench startup` runs this in the emulated host, where an
//! instruction is a nanosecond and the milliseconds are therefore virtual and
//! the same on any machine. Nothing is printed before the last sample is taken:
//! the virtual clock would jump while the host waits for real I/O.
#![forbid(unsafe_code)]

mod container;
mod memory;
mod report;
mod sample;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};

#[derive(Debug, Parser)]
#[command(about)]
struct Arguments {
    /// Directory with `bulkhead`, `vmlinux` and `initramfs.cpio`; best on a tmpfs
    #[arg(long)]
    dist: PathBuf,
    /// Starts that are measured, after one that warms the caches
    #[arg(long, default_value_t = 5)]
    runs: usize,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let directory = tempfile::tempdir().context("cannot make a directory for the bundle")?;
    let container = container::Container::new(&arguments.dist.join("bulkhead"), directory.path())?;
    // The first start in a fresh host finds cold caches (4.5 % slower).
    container.start_once("warm-up")?;
    let samples = (0..arguments.runs)
        .map(|n| container.start_once(&format!("run-{n}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let report = report::Report::of(&samples).context("no runs, no report")?;
    match arguments.format {
        Format::Text => print!("{report}"),
        Format::Json => println!("{}", serde_json::to_string(&report)?),
    }
    Ok(())
}
