//! Brings the initramfs into guest memory.
//!
//! It is mapped, not copied: all guests of a host share its pages. That asks
//! for the kernel to keep the memory when it is done unpacking, or it would
//! become buffers that a vhost-user backend cannot see, hence the parameter
//! [`RETAIN`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use vm_memory::GuestAddress;

use crate::arch::x86_64::boot_params::Range;
use crate::arch::x86_64::layout::PAGE_SIZE;
use crate::memory::{self, GuestMemory, MemoryError};

/// The kernel parameter that makes Linux keep the initramfs's memory.
pub const RETAIN: &str = "retain_initrd";

/// Why the initramfs cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// The file cannot be opened.
    #[error("cannot open the initramfs {path:?}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("the initramfs {path:?} is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It does not fit.
    #[error(
        "the initramfs {path:?} of {len} bytes does not fit into the guest's memory beside its kernel; {free} bytes are left"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
        /// What there is room for.
        free: u64,
    },
    /// It could not be brought into memory.
    #[error("cannot load the initramfs {path:?}")]
    Memory {
        /// The file.
        path: PathBuf,
        /// Why.
        source: MemoryError,
    },
}

/// Maps the file at `path` as high as possible between `kernel_end` and
/// `ram_end`.
pub fn load(
    memory: &GuestMemory,
    path: &Path,
    kernel_end: GuestAddress,
    ram_end: u64,
) -> Result<Range, InitramfsError> {
    let path = || path.to_owned();
    let open = || {
        let file = File::open(path())?;
        let len = file.metadata()?.len();
        Ok((file, len))
    };
    let (file, len) = open().map_err(|source| InitramfsError::Open {
        path: path(),
        source,
    })?;
    if len == 0 {
        return Err(InitramfsError::Empty { path: path() });
    }
    let start = place(len, kernel_end.0, ram_end).ok_or_else(|| InitramfsError::TooLarge {
        path: path(),
        len,
        free: ram_end - kernel_end.0,
    })?;
    memory::map_file(memory, &file, 0, start, len).map_err(|source| InitramfsError::Memory {
        path: path(),
        source,
    })?;
    Ok(Range { start, len })
}

/// The highest page from which `len` bytes fit.
fn place(len: u64, kernel_end: u64, ram_end: u64) -> Option<GuestAddress> {
    let pages = len.checked_next_multiple_of(PAGE_SIZE)?;
    let start = (ram_end & !(PAGE_SIZE - 1)).checked_sub(pages)?;
    (start >= kernel_end).then_some(GuestAddress(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_the_highest_page_that_fits() {
        assert_eq!(
            place(1, 0x10_0000, 0x80_0000),
            Some(GuestAddress(0x7f_f000))
        );
        assert_eq!(
            place(0x1001, 0x10_0000, 0x80_0000),
            Some(GuestAddress(0x7f_e000))
        );
        assert_eq!(
            place(0x70_0000, 0x10_0000, 0x80_0000),
            Some(GuestAddress(0x10_0000))
        );
        assert_eq!(place(0x70_0001, 0x10_0000, 0x80_0000), None);
        assert_eq!(place(u64::MAX, 0x10_0000, 0x80_0000), None);
    }
}
