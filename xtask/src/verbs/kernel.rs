//! `cargo xtask kernel`: the guest's kernel alone.

use anyhow::Result;

use crate::kernel::{self, Flavour, Options};
use crate::setup::{self, Need, Policy};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build the kernel of the emulated hosts instead
    #[arg(long)]
    emulated_host: bool,

    /// Build again, and fail unless both builds are the same bytes
    #[arg(long)]
    verify: bool,

    #[command(flatten)]
    policy: Policy,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    setup::ensure(&[Need::Build], arguments.policy)?;
    let flavour = if arguments.emulated_host {
        Flavour::EmulatedHost
    } else {
        Flavour::Guest
    };
    let options = Options {
        verify: arguments.verify,
    };
    let image = kernel::build(flavour, options)?;
    println!("{}", image.vmlinux.display());
    println!(
        "Linux {}: {} KiB in memory, built in {} s",
        image.release,
        image.loaded_bytes.div_ceil(1024),
        image.build_seconds
    );
    Ok(0)
}
