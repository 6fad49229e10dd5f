//! Emulated machines with real KVM, for hosts whose own cannot run guests.
//!
//! A machine is an emulator that boots the host kernel (guest-kernel's, in its
//! emulated-host flavour) with an initramfs of ours: busybox, `init.sh` and the
//! job. Four channels lead out of it: the kernel's console, the job's standard
//! output and standard error, and a control channel on which `init.sh` says
//! `up`, and `exit N` in the end.

mod hang;
mod image;
mod job;
mod process;
mod qemu;
mod qmp;
mod session;

use std::io::Write;

use anyhow::Result;

pub(crate) use job::Job;

/// Memory of a machine unless told otherwise.
pub(crate) const DEFAULT_MEMORY_MIB: u32 = 4096;

/// The machine's processor, and what emulates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    /// AMD SVM in QEMU. With `icount`, an instruction takes a nanosecond of the
    /// machine's time, and two runs of the same job are alike to the instruction.
    Amd { icount: bool },
    /// Intel VT-x with EPT in Bochs.
    Intel,
}

/// Where the output of a job goes.
pub(crate) type Sink = Box<dyn Write + Send>;

/// Runs the job in a fresh machine; the result is the job's exit code.
pub(crate) fn run(platform: Platform, job: &Job, stdout: Sink, stderr: Sink) -> Result<u8> {
    match platform {
        Platform::Amd { icount } => qemu::run(icount, job, stdout, stderr),
        Platform::Intel => anyhow::bail!("not there yet"),
    }
}
