//! `bulkhead fsd` (internal): serves files to a microVM.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use bulkhead_fsd::Export;

use crate::error::Error;
use crate::signals;

/// Arguments of `fsd`. Standard input is the listening vhost-user socket.
#[derive(Debug, clap::Parser)]
#[command(name = "bulkhead fsd", about = "Serves files to a microVM (internal)")]
pub(crate) struct Args {
    /// Show the guest a directory or file under this name
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_export)]
    export: Vec<(PathBuf, PathBuf)>,
    /// The same, and refuse writes
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_export)]
    export_ro: Vec<(PathBuf, PathBuf)>,
}

/// Serves until the VMM hangs up.
pub(crate) fn execute(args: Args) -> Result<u8, Error> {
    super::name_process(c"bulkhead-fsd");
    let failed = || Error::io("take over", "standard input as the listening socket");
    signals::unblock().map_err(failed())?;
    let listener = io::stdin().as_fd().try_clone_to_owned().map_err(failed())?;
    let exports = |list: Vec<_>, read_only| {
        list.into_iter().map(move |(name, source)| Export {
            name,
            source,
            read_only,
        })
    };
    let exports: Vec<_> = exports(args.export, false)
        .chain(exports(args.export_ro, true))
        .collect();
    bulkhead_fsd::serve(UnixListener::from(listener), &exports)?;
    Ok(0)
}

/// Names hold no `=`, sources may.
fn parse_export(text: &str) -> Result<(PathBuf, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.into(), path.into()))
        }
        _ => Err("expected NAME=PATH".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_may_hold_anything() {
        assert_eq!(
            parse_export("box/rootfs=/a=b:ro"),
            Ok(("box/rootfs".into(), "/a=b:ro".into()))
        );
        for text in ["", "name", "=path", "name="] {
            assert!(parse_export(text).is_err(), "{text:?}");
        }
    }
}
