//! Guest memory.
//!
//! All RAM is one memfd, mapped shared, so that a vhost-user backend can be
//! given it. Nothing is populated before it is touched.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags, sendfile};
use vm_memory::mmap::FromRangesError;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemory as _, GuestMemoryMmap, GuestMemoryRegion as _,
    MemoryRegionAddress,
};

use crate::arch::x86_64::layout::{PAGE_SIZE, ram_ranges};

/// All of a guest's RAM. A clone is another handle on the same memory.
pub type GuestMemory = GuestMemoryMmap;

/// Why guest memory cannot be had or filled.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// More than the host has at all.
    #[error("{asked_mib} MiB of guest memory are more than the {host_mib} MiB this host has")]
    MoreThanHost {
        /// What was asked for.
        asked_mib: u64,
        /// What there is.
        host_mib: u64,
    },
    /// The memfd could not be made.
    #[error("cannot make a memory file of {size_mib} MiB for the guest")]
    Memfd {
        /// Its size.
        size_mib: u64,
        /// Why.
        source: rustix::io::Errno,
    },
    /// The memfd could not be mapped.
    #[error("cannot map the guest's memory")]
    Map(#[from] FromRangesError),
    /// A range is not in RAM, or not in one piece.
    #[error("{len:#x} bytes at guest address {address:#x} are not in RAM")]
    OutsideRam {
        /// Where the range starts.
        address: u64,
        /// Its length.
        len: u64,
    },
    /// A file could not be mapped into guest memory.
    #[error("cannot map {len:#x} bytes from file offset {offset:#x} to guest address {address:#x}")]
    MapFile {
        /// Where in the file.
        offset: u64,
        /// Where in the guest.
        address: u64,
        /// How much.
        len: u64,
        /// Why.
        source: io::Error,
    },
    /// A file could not be copied into guest memory.
    #[error(
        "cannot copy {len:#x} bytes from file offset {offset:#x} to guest address {address:#x}"
    )]
    CopyFile {
        /// Where in the file.
        offset: u64,
        /// Where in the guest.
        address: u64,
        /// How much.
        len: u64,
        /// Why.
        source: io::Error,
    },
}

/// Makes `size` bytes of guest memory, a multiple of the page size.
pub fn allocate(size: u64) -> Result<GuestMemory, MemoryError> {
    check_host_memory(size)?;
    let memfd = Arc::new(File::from(memfd(size).map_err(|source| {
        MemoryError::Memfd {
            size_mib: size >> 20,
            source,
        }
    })?));
    let mut start = 0;
    let mut ranges = Vec::new();
    for (address, len) in ram_ranges(size).into_iter().filter(|(_, len)| *len > 0) {
        ranges.push((
            address,
            len as usize,
            Some(FileOffset::from_arc(memfd.clone(), start)),
        ));
        start += len;
    }
    Ok(GuestMemoryMmap::from_ranges_with_files(ranges)?)
}

/// Refuses what the host could never provide. Less than that is the business of
/// the host's memory management: RAM is not populated until it is used.
fn check_host_memory(size: u64) -> Result<(), MemoryError> {
    let info = rustix::system::sysinfo();
    let host = info.totalram.saturating_mul(u64::from(info.mem_unit));
    if size > host {
        return Err(MemoryError::MoreThanHost {
            asked_mib: size >> 20,
            host_mib: host >> 20,
        });
    }
    Ok(())
}

/// A memfd whose size is sealed: who is given it cannot make a mapping fault by
/// truncating it.
fn memfd(size: u64) -> rustix::io::Result<std::os::fd::OwnedFd> {
    let fd =
        rustix::fs::memfd_create("guest-ram", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&fd, size)?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
}

/// Copies from a file to guest memory, bypassing this process's mapping.
///
/// Writing to the memfd spares a fault, and the zeroing of a page, for each
/// page that is written whole.
pub fn copy_file(
    memory: &GuestMemory,
    file: &File,
    offset: u64,
    address: GuestAddress,
    len: u64,
) -> Result<(), MemoryError> {
    let (region, start) = locate(memory, address, len)?;
    let memfd = region
        .file_offset()
        .expect("guest RAM is made from a memfd");
    let copy = || {
        let mut to = memfd.file();
        to.seek(SeekFrom::Start(memfd.start() + start.0))?;
        let (mut from, end) = (offset, offset + len);
        while from < end {
            let rest = (end - from) as usize;
            // Moves `from` on.
            if sendfile(to, file, Some(&mut from), rest)? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
        Ok(())
    };
    copy().map_err(|source| MemoryError::CopyFile {
        offset,
        address: address.0,
        len,
        source,
    })
}

/// Maps a part of a file over guest memory, privately: what the guest writes
/// there is its own, what it only reads is shared with all that map the file.
///
/// The memfd does not have these pages, so they must not be ones that a guest
/// hands to a vhost-user backend. The last page is filled up with zeros, if
/// the file ends in it. `offset` and `address` must be multiples of the page
/// size.
#[allow(unsafe_code)]
pub fn map_file(
    memory: &GuestMemory,
    file: &File,
    offset: u64,
    address: GuestAddress,
    len: u64,
) -> Result<(), MemoryError> {
    let error = |source| MemoryError::MapFile {
        offset,
        address: address.0,
        len,
        source,
    };
    if !offset.is_multiple_of(PAGE_SIZE) || !address.0.is_multiple_of(PAGE_SIZE) {
        return Err(error(io::ErrorKind::InvalidInput.into()));
    }
    let pages = len.next_multiple_of(PAGE_SIZE);
    let (region, start) = locate(memory, address, pages)?;
    let host = region
        .get_host_address(start)
        .map_err(|_| MemoryError::OutsideRam {
            address: address.0,
            len: pages,
        })?;
    // SAFETY: `locate` has checked that the range lies within the mapping that
    // `region` owns, and both ends are multiples of the page size, so only
    // guest RAM is replaced. No Rust reference points into guest RAM: all
    // access is through volatile slices. The mapping keeps the protection of
    // what it replaces, and is unmapped with it.
    let mapped = unsafe {
        libc::mmap(
            host.cast(),
            pages as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE,
            file.as_raw_fd(),
            offset as libc::off_t,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(error(io::Error::last_os_error()));
    }
    Ok(())
}

/// The region that holds all of a range, and where in it the range starts.
fn locate(
    memory: &GuestMemory,
    address: GuestAddress,
    len: u64,
) -> Result<(&vm_memory::GuestRegionMmap, MemoryRegionAddress), MemoryError> {
    let outside = || MemoryError::OutsideRam {
        address: address.0,
        len,
    };
    let (region, start) = memory.to_region_addr(address).ok_or_else(outside)?;
    match start.0.checked_add(len) {
        Some(end) if end <= region.len() => Ok((region, start)),
        _ => Err(outside()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::Bytes;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn ram_beyond_the_hole_follows_in_the_file() {
        let memory = allocate(5 << 30).unwrap();
        let starts: Vec<(u64, u64)> = memory
            .iter()
            .map(|region| (region.start_addr().0, region.file_offset().unwrap().start()))
            .collect();
        assert_eq!(starts, [(0, 0), (4 << 30, 3 << 30)]);
    }

    #[test]
    fn more_than_the_host_has_is_refused() {
        let error = allocate(1 << 50).unwrap_err();
        assert!(
            matches!(error, MemoryError::MoreThanHost { asked_mib, .. } if asked_mib == 1 << 30)
        );
    }

    #[test]
    fn copied_file_is_in_the_memfd_and_in_the_mapping() {
        let memory = allocate(16 << 20).unwrap();
        copy_file(&memory, &file(b"abcdef"), 2, GuestAddress(0x1001), 3).unwrap();
        assert_eq!(
            memory.read_obj::<[u8; 5]>(GuestAddress(0x1000)).unwrap(),
            *b"\0cde\0"
        );
    }

    #[test]
    fn copy_past_the_end_of_the_file_fails() {
        let memory = allocate(16 << 20).unwrap();
        let error = copy_file(&memory, &file(b"abc"), 0, GuestAddress(0), 4).unwrap_err();
        assert!(matches!(error, MemoryError::CopyFile { len: 4, .. }));
    }

    #[test]
    fn mapped_file_is_private() {
        let memory = allocate(16 << 20).unwrap();
        let file = file(&[7; 5000]);
        map_file(&memory, &file, 0, GuestAddress(0x2000), 5000).unwrap();
        memory.write_obj(9u8, GuestAddress(0x2000)).unwrap();
        map_file(&memory, &file, 0, GuestAddress(0x8000), 5000).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x2000)).unwrap(), 9);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x8000)).unwrap(), 7);
        assert_eq!(
            memory.read_obj::<u8>(GuestAddress(0x8000 + 5000)).unwrap(),
            0
        );
    }

    #[test]
    fn ranges_outside_ram_are_refused() {
        let memory = allocate(16 << 20).unwrap();
        let file = file(&[0; 8192]);
        for address in [(16 << 20) - 0x1000, 16 << 20, !0xfff] {
            let error = map_file(&memory, &file, 0, GuestAddress(address), 8192).unwrap_err();
            assert!(matches!(error, MemoryError::OutsideRam { .. }));
        }
    }

    #[test]
    fn unaligned_mapping_is_refused() {
        let memory = allocate(16 << 20).unwrap();
        let error = map_file(&memory, &file(&[0; 8192]), 1, GuestAddress(0), 1).unwrap_err();
        assert!(matches!(error, MemoryError::MapFile { offset: 1, .. }));
    }
}
