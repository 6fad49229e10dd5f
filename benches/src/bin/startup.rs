//! What `cargo xtask bench startup` runs in the emulated host. It prints one
//! JSON object, when everything is measured.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use bulkhead_benches::counted::{self, Size};
use clap::Parser;

#[derive(Debug, Parser)]
#[command(about)]
struct Arguments {
    /// Directory with `bulkhead`, `vmlinux` and `initramfs.cpio`; best on a tmpfs
    #[arg(long)]
    dist: PathBuf,
    /// vCPUs of the microVM
    #[arg(long)]
    vcpus: u32,
    /// Memory of the microVM
    #[arg(long)]
    memory_mib: u32,
    /// Starts that are measured, after one that warms the caches
    #[arg(long)]
    runs: usize,
}

fn main() -> ExitCode {
    match figures(&Arguments::parse()) {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => bulkhead_benches::fail(error.as_ref()),
    }
}

fn figures(arguments: &Arguments) -> Result<String, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let size = Size {
        vcpus: arguments.vcpus,
        memory_mib: arguments.memory_mib,
    };
    let figures = counted::measure(&arguments.dist, directory.path(), size, arguments.runs)?;
    Ok(serde_json::to_string(&figures)?)
}
