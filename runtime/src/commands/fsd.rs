//! `bulkhead fsd` (internal): serves files to a microVM.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use bulkhead_fsd::Export;

use crate::error::Error;
use crate::sandbox::export_argument;
use crate::signals;

/// Arguments of `fsd`. Standard input is the listening vhost-user socket.
#[derive(Debug, clap::Parser)]
#[command(name = "bulkhead fsd", about = "Serves files to a microVM (internal)")]
pub(crate) struct Args {
    /// Show the guest a directory or file under this name. The options are
    /// mount(8)'s: `bind` or `rbind`, and `ro` or `rw`
    #[arg(long, value_name = "OPTIONS:NAME=PATH", value_parser = export_argument::parse)]
    export: Vec<Export>,
}

/// Serves until the VMM hangs up.
pub(crate) fn execute(args: &Args) -> Result<u8, Error> {
    super::name_process(c"bulkhead-fsd");
    let failed = || Error::io("take over", "standard input as the listening socket");
    signals::unblock().map_err(failed())?;
    let listener = io::stdin().as_fd().try_clone_to_owned().map_err(failed())?;
    bulkhead_fsd::serve(UnixListener::from(listener), &args.export)?;
    Ok(0)
}
