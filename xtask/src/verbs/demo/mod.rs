//! `cargo xtask demo`: a container in a microVM of its own, from nothing.

mod bundle;
mod inside;

use std::io;

use anyhow::Result;

pub(crate) use self::inside::Arguments as InsideArguments;
pub(crate) use self::inside::run as run_inside;
use crate::machine::{self, Job, Platform};
use crate::setup::{self, Need, Policy};
use crate::{dist, kvm, rootfs};

const EMULATED: Platform = Platform::Amd { icount: false };

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A root file system of busybox alone, instead of Debian's: quicker to make
    #[arg(long)]
    busybox: bool,

    #[command(flatten)]
    policy: Policy,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let obstacle = kvm::obstacle();
    let mut needs = vec![Need::Build, Need::Rootfs];
    if obstacle.is_some() {
        needs.extend(EMULATED.needs());
    }
    setup::ensure(&needs, arguments.policy)?;

    let dist = dist::build()?;
    let rootfs = if arguments.busybox {
        rootfs::busybox()?
    } else {
        rootfs::debian()?
    };
    let bundle = bundle::make(&dist.bulkhead, &rootfs)?;
    let arguments = InsideArguments {
        bulkhead: dist.bulkhead,
        bundle,
    };
    let Some(obstacle) = obstacle else {
        return inside::run(&arguments);
    };
    println!("this machine cannot run guests itself ({obstacle}): using an emulated AMD machine");
    let command = arguments.command_line()?;
    let job = Job::new(&command)?.sharing(&[rootfs, arguments.bundle])?;
    machine::run(
        EMULATED,
        &job,
        Box::new(io::stdout()),
        Box::new(io::stderr()),
    )
}
