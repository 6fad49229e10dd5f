//! `cargo xtask host`: a command in an emulated machine that has real KVM.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::machine::{self, Cgroups, Job, Platform};
use crate::setup::{self, Policy};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// AMD SVM in QEMU, with this machine's files (the default)
    #[arg(long, conflicts_with = "intel")]
    amd: bool,

    /// Intel VT-x with EPT in Bochs, with the packed files only
    #[arg(long)]
    intel: bool,

    /// Deterministic time: an instruction is a nanosecond; packed files only
    #[arg(long, conflicts_with = "intel")]
    icount: bool,

    /// Memory of the emulated machine
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,

    /// CPUs of the emulated AMD machine
    ///
    /// They take turns on one CPU of this machine: for programs that would wait in
    /// vain, or for long, for others that run at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "intel")]
    cpus: u32,

    /// Version of the machine's cgroups
    #[arg(long, value_enum, value_name = "VERSION", default_value = "v2")]
    cgroups: Cgroups,

    /// End the machine after this long, and say where it hung
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    timeout: u64,

    /// Have this file or folder inside, at the same path
    ///
    /// Needed where the machine's files are packed (--intel, --icount), and for
    /// paths beneath /tmp and /run, which are empty inside.
    #[arg(long, value_name = "PATH")]
    share: Vec<PathBuf>,

    /// Boot the machine with this kernel instead of our own
    #[arg(long, value_name = "IMAGE")]
    kernel: Option<PathBuf>,

    #[command(flatten)]
    policy: Policy,

    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let platform = match (arguments.intel, arguments.icount) {
        (true, _) => Platform::Intel,
        (false, icount) => Platform::Amd { icount },
    };
    setup::ensure(platform.needs(), arguments.policy)?;
    let job = Job::new(&arguments.command)?
        .sharing(&arguments.share)?
        .with_kernel(arguments.kernel.clone())
        .with_memory_mib(arguments.memory)
        .with_cpus(arguments.cpus)
        .with_cgroups(arguments.cgroups)
        .with_timeout(Duration::from_secs(arguments.timeout));
    machine::run(
        platform,
        &job,
        Box::new(io::stdout()),
        Box::new(io::stderr()),
    )
}
