//! The stage that fills the guest's memory with what it needs at its first
//! instruction.

use std::iter;

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::arch::x86_64::layout::{self, GDT, SERIAL_IRQ, VIRTIO_IRQ_START};
use crate::arch::x86_64::{boot_params, gdt, mptable, page_tables};
use crate::kernel::cmdline::{self, CmdlineError};
use crate::kernel::image::{self, KernelError};
use crate::kernel::initramfs::{self, InitramfsError};
use crate::memory::GuestMemory;
use crate::spec::VmSpec;

/// Why the guest cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// No kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No initramfs.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// No kernel command line.
    #[error(transparent)]
    Cmdline(#[from] CmdlineError),
    /// The tables that the kernel reads at boot could not be written.
    #[error("cannot write the guest's boot tables")]
    BootTables(#[from] GuestMemoryError),
}

/// Loads kernel and initramfs and writes what the kernel reads at boot. Returns
/// the kernel's entry point.
pub(super) fn load(
    memory: &GuestMemory,
    spec: &VmSpec,
    virtio_devices: usize,
) -> Result<GuestAddress, GuestError> {
    let [(_, ram_end), _] = layout::ram_ranges(spec.memory_size);
    let kernel = image::load(memory, &spec.kernel, ram_end)?;
    let initramfs = match &spec.initramfs {
        Some(path) => Some(initramfs::load(memory, path, kernel.end, ram_end)?),
        None => None,
    };
    let cmdline_size = cmdline::write(memory, virtio_devices, initramfs.is_some(), &spec.cmdline)?;
    boot_params::write(memory, spec.memory_size, cmdline_size, initramfs)?;
    memory.write_obj(gdt::TABLE, GDT)?;
    page_tables::write(memory)?;
    mptable::write(memory, spec.vcpus, &irqs(virtio_devices))?;
    Ok(kernel.entry)
}

/// The interrupt lines in use.
fn irqs(virtio_devices: usize) -> Vec<u32> {
    iter::once(SERIAL_IRQ)
        .chain((VIRTIO_IRQ_START..).take(virtio_devices))
        .collect()
}
