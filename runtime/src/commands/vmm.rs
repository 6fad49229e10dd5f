//! `bulkhead vmm` (internal): runs a microVM.

use std::fs;
use std::path::PathBuf;

use bulkhead_vmm::config::Config;

use crate::error::Error;
use crate::signals;

/// Arguments of `vmm`.
#[derive(Debug, clap::Parser)]
#[command(name = "bulkhead vmm", about = "Runs a microVM (internal)")]
pub(crate) struct Args {
    /// The microVM's configuration, in JSON
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the microVM to its end; the exit code tells how it came.
pub(crate) fn execute(args: Args) -> Result<u8, Error> {
    super::name_process(c"bulkhead-vmm");
    signals::unblock().map_err(Error::io("unblock signals for", "the VMM"))?;
    let text = fs::read(&args.config).map_err(Error::io("read", &args.config))?;
    let config: Config = serde_json::from_slice(&text).map_err(|source| Error::Content {
        path: args.config,
        what: "a microVM's configuration",
        source,
    })?;
    Ok(bulkhead_vmm::run(config)?.exit_code())
}
