//! Reads the program headers of a 64-bit little-endian ELF file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Bytes of the ELF file header (System V ABI, chapter 4).
const FILE_HEADER: usize = 64;
/// Bytes of one program header (System V ABI, chapter 5).
const PROGRAM_HEADER: usize = 56;
/// `p_type` of a segment that is loaded into memory.
const PT_LOAD: u32 = 1;
const PAGE: u64 = 4096;

/// A segment that is loaded into memory.
struct Segment {
    offset: u64,
    physical_address: u64,
    file_bytes: u64,
}

/// Bytes of the file that are loaded into memory.
pub(super) fn loaded_bytes(path: &Path) -> Result<u64> {
    Ok(segments(path)?
        .iter()
        .map(|segment| segment.file_bytes)
        .sum())
}

/// Checks that a VMM can map the segments instead of copying them: each has
/// the same offset within a page in the file and in memory.
pub(super) fn check_mappable(path: &Path) -> Result<()> {
    for segment in segments(path)? {
        ensure!(
            segment.offset % PAGE == segment.physical_address % PAGE,
            "{}: the segment for {:#x} cannot be mapped, it lies at file offset {:#x}",
            path.display(),
            segment.physical_address,
            segment.offset
        );
    }
    Ok(())
}

fn segments(path: &Path) -> Result<Vec<Segment>> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut header = [0; FILE_HEADER];
    file.read_exact(&mut header)
        .with_context(|| format!("read the ELF header of {}", path.display()))?;
    ensure!(
        header.starts_with(b"\x7fELF\x02\x01"),
        "{} is not a 64-bit little-endian ELF file",
        path.display()
    );
    let table = u64_at(&header, 32);
    let count = u16::from_le_bytes([header[56], header[57]]);
    let mut segments = Vec::new();
    for index in 0..u64::from(count) {
        let mut entry = [0; PROGRAM_HEADER];
        file.read_exact_at(&mut entry, table + index * PROGRAM_HEADER as u64)
            .with_context(|| format!("read the program headers of {}", path.display()))?;
        if entry.starts_with(&PT_LOAD.to_le_bytes()) {
            segments.push(Segment {
                offset: u64_at(&entry, 8),
                physical_address: u64_at(&entry, 24),
                file_bytes: u64_at(&entry, 32),
            });
        }
    }
    Ok(segments)
}

/// The little-endian number at `offset` of a header of fixed size.
fn u64_at(header: &[u8], offset: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[offset..offset + 8]);
    u64::from_le_bytes(bytes)
}
