//! `cargo xtask build`: the whole installation, in `target/dist`.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::dist;
use crate::setup::{self, Need, Policy};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    policy: Policy,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    setup::ensure(&[Need::Build], arguments.policy)?;
    let dist = dist::build()?;
    for file in [&dist.bulkhead, &dist.vmlinux, &dist.initramfs] {
        println!("{:>8} KiB  {}", kib(file)?, file.display());
    }
    Ok(0)
}

fn kib(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file)?.len().div_ceil(1024))
}
