//! Emulated machines with real KVM, for hosts whose own cannot run guests.
//!
//! A machine is an emulator that boots the host kernel (guest-kernel's, in its
//! emulated-host flavour) with an initramfs of ours: busybox, `init.sh` and the
//! job. Four channels lead out of it: the kernel's console, the job's standard
//! output and standard error, and a control channel on which `init.sh` says
//! `up`, and `exit N` in the end.

mod bochs;
mod collected;
mod hang;
mod image;
mod job;
mod process;
mod qemu;
mod qmp;
mod session;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

pub(crate) use collected::Collected;
pub(crate) use job::{Cgroups, Job};

use crate::kernel::{self, Flavour};
use crate::setup::Need;

/// The machine's processor, and what emulates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    /// AMD SVM in QEMU. With `icount`, an instruction takes a nanosecond of the
    /// machine's time, and two runs of the same job are alike to the instruction.
    Amd { icount: bool },
    /// Intel VT-x with EPT in Bochs.
    Intel,
}

impl Platform {
    /// Memory of a machine unless told otherwise.
    fn default_memory_mib(self) -> u32 {
        match self {
            Self::Amd { .. } => 4096,
            Self::Intel => 1024,
        }
    }

    /// Our kernel for it, in the format that its emulator boots.
    fn kernel(self) -> Result<PathBuf> {
        let image = kernel::build(Flavour::EmulatedHost, kernel::Options::default())?;
        match self {
            Self::Amd { .. } => Ok(image.vmlinux),
            Self::Intel => image.bzimage.context("the kernel has no bzImage"),
        }
    }

    /// What this machine has to have to emulate one of these.
    pub(crate) fn needs(self) -> &'static [Need] {
        match self {
            Self::Amd { .. } => &[Need::Build, Need::Amd],
            Self::Intel => &[Need::Build, Need::Intel],
        }
    }
}

/// Where the output of a job goes.
pub(crate) type Sink = Box<dyn Write + Send>;

/// Runs the job in a fresh machine; the result is the job's exit code.
pub(crate) fn run(platform: Platform, job: &Job, stdout: Sink, stderr: Sink) -> Result<u8> {
    let kernel = match job.kernel() {
        Some(kernel) => kernel.to_path_buf(),
        None => platform.kernel()?,
    };
    match platform {
        Platform::Amd { icount } => qemu::run(icount, &kernel, job, stdout, stderr),
        Platform::Intel => bochs::run(&kernel, job, stdout, stderr),
    }
}
