//! `cargo xtask bench storage`: shared files beside those of a container under runc,
//! counted in instructions, in the emulated host.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use bulkhead_benches::storage::Report;

use super::super::format::Format;
use super::counted::{self, PLATFORM};
use crate::machine::Job;
use crate::progress::Step;
use crate::setup::{self, Need, Policy};
use crate::{dist, paths, rootfs};

const TIMEOUT: Duration = Duration::from_mins(15);

/// Bulkhead is compared with it.
const RUNC: &str = "/usr/sbin/runc";

/// What it is linked with.
const LIBRARIES: [&str; 3] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/x86_64-linux-gnu/libseccomp.so.2",
];

/// For two copies of what is worked on, and a microVM that has all of it in its cache.
const MEMORY_MIB: u32 = 4096;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    policy: Policy,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let mut needs = PLATFORM.needs().to_vec();
    needs.push(Need::Storage);
    setup::ensure(&needs, arguments.policy)?;
    dist::build()?;
    counted::build()?;
    let report = measure()?;
    match arguments.format {
        Format::Text => print!("{report}"),
        Format::Json => println!("{}", serde_json::to_string(&report)?),
    }
    Ok(0)
}

fn measure() -> Result<Report> {
    let system = rootfs::development()?;
    let command = [
        paths::release_binary("storage").into_os_string(),
        "measure".into(),
        "--bulkhead".into(),
        paths::dist().join("bulkhead").into_os_string(),
        "--reference".into(),
        RUNC.into(),
        "--system".into(),
        system.clone().into_os_string(),
    ];
    let mut files = vec![paths::dist(), RUNC.into(), system];
    files.extend(LIBRARIES.map(PathBuf::from));
    let job = Job::new(&command)?
        .sharing(&files)?
        .with_memory_mib(Some(MEMORY_MIB))
        .with_timeout(TIMEOUT);
    let step = Step::start("work under two runtimes, in an emulated host");
    let report = counted::run(&job)?;
    step.finish();
    Ok(report)
}
