//! The kernel command line.

use linux_loader::cmdline::{Cmdline, Error};
use vm_memory::{Bytes, GuestMemoryError};

use super::initramfs;
use crate::arch::x86_64::layout::{
    CMDLINE, CMDLINE_MAX_SIZE, VIRTIO_IRQ_START, VIRTIO_MMIO_SIZE, VIRTIO_MMIO_START,
};
use crate::memory::GuestMemory;

/// Guest memory is zero but for what is loaded: a kernel that knows (ours,
/// `guest-kernel/guest/patches/`) need not clear it.
const ZEROED: &str = "memblock=zeroed";

/// Interrupts are pulses, by irqfd: such a kernel need not acknowledge them.
const PULSES: &str = "virtio_mmio.pulses=1";

/// Why there is no command line.
#[derive(Debug, thiserror::Error)]
pub enum CmdlineError {
    /// It does not fit, or has characters that cannot be in one.
    #[error("the kernel command line {extra:?}, with the VMM's own parameters, is not valid")]
    Invalid {
        /// What was to be added to the VMM's own parameters.
        extra: String,
        /// What is wrong with it.
        source: Error,
    },
    /// It could not be written.
    #[error("cannot write the kernel command line")]
    Memory(#[from] GuestMemoryError),
}

/// Writes the command line for `virtio_devices` devices and returns its size
/// with the terminating zero.
pub fn write(
    memory: &GuestMemory,
    virtio_devices: usize,
    has_initramfs: bool,
    extra: &str,
) -> Result<usize, CmdlineError> {
    let line =
        build(virtio_devices, has_initramfs, extra).map_err(|source| CmdlineError::Invalid {
            extra: extra.to_owned(),
            source,
        })?;
    memory.write_slice(&line, CMDLINE)?;
    Ok(line.len())
}

/// The VMM's own parameters come first: after `--` in `extra`, parameters are
/// those of init.
fn build(virtio_devices: usize, has_initramfs: bool, extra: &str) -> Result<Vec<u8>, Error> {
    let mut line = Cmdline::new(CMDLINE_MAX_SIZE)?;
    for index in 0..virtio_devices {
        let start = VIRTIO_MMIO_START.0 + index as u64 * VIRTIO_MMIO_SIZE;
        let irq = VIRTIO_IRQ_START + index as u32;
        line.insert_str(format!(
            "virtio_mmio.device={VIRTIO_MMIO_SIZE:#x}@{start:#x}:{irq}"
        ))?;
    }
    line.insert_str(ZEROED)?;
    line.insert_str(PULSES)?;
    if has_initramfs {
        line.insert_str(initramfs::RETAIN)?;
    }
    if !extra.is_empty() {
        line.insert_str(extra)?;
    }
    Ok(line.as_cstring()?.into_bytes_with_nul())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_before_the_rest() {
        let line = build(2, true, "quiet -- init-arg").unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "virtio_mmio.device=0x1000@0xd0000000:5 virtio_mmio.device=0x1000@0xd0001000:6 \
             memblock=zeroed virtio_mmio.pulses=1 retain_initrd quiet -- init-arg\0"
        );
    }

    #[test]
    fn line_ends_in_a_zero() {
        assert_eq!(
            build(0, false, "").unwrap(),
            b"memblock=zeroed virtio_mmio.pulses=1\0"
        );
    }

    #[test]
    fn long_line_is_refused() {
        let room = CMDLINE_MAX_SIZE - build(0, false, "").unwrap().len() - 1;
        assert!(build(0, false, &"x".repeat(room)).is_ok());
        assert!(build(0, false, &"x".repeat(room + 1)).is_err());
    }

    #[test]
    fn zero_byte_is_refused() {
        assert!(build(0, false, "a\0b").is_err());
    }
}
