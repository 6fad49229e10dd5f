//! The program headers of a 64-bit little-endian ELF file.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Bytes of the ELF file header (System V ABI, chapter 4).
const FILE_HEADER: usize = 64;
/// Bytes of one program header (System V ABI, chapter 5).
pub(super) const PROGRAM_HEADER: usize = 56;
/// `p_type` of a segment that is loaded into memory.
const PT_LOAD: u32 = 1;
pub(super) const PAGE: u64 = 4096;

/// A segment that is loaded into memory.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) flags: u32,
    pub(super) offset: u64,
    pub(super) virtual_address: u64,
    pub(super) physical_address: u64,
    pub(super) file_bytes: u64,
    pub(super) memory_bytes: u64,
    pub(super) alignment: u64,
}

impl Segment {
    /// Whether the segment with this header is loaded.
    pub(super) fn is_loaded(header: &[u8]) -> bool {
        header.starts_with(&PT_LOAD.to_le_bytes())
    }

    fn parse(header: &[u8]) -> Option<Self> {
        let flags = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        Self::is_loaded(header).then(|| Self {
            flags,
            offset: u64_at(header, 8),
            virtual_address: u64_at(header, 16),
            physical_address: u64_at(header, 24),
            file_bytes: u64_at(header, 32),
            memory_bytes: u64_at(header, 40),
            alignment: u64_at(header, 48),
        })
    }

    /// The header, as [`parse`](Self::parse) reads it.
    pub(super) fn header(&self) -> [u8; PROGRAM_HEADER] {
        let mut header = [0; PROGRAM_HEADER];
        header[..4].copy_from_slice(&PT_LOAD.to_le_bytes());
        header[4..8].copy_from_slice(&self.flags.to_le_bytes());
        let numbers = [
            self.offset,
            self.virtual_address,
            self.physical_address,
            self.file_bytes,
            self.memory_bytes,
            self.alignment,
        ];
        header[8..].copy_from_slice(numbers.map(u64::to_le_bytes).as_flattened());
        header
    }

    /// A part of the segment, given by its distance from the start. It is as
    /// long in memory as in the file.
    pub(super) fn part(&self, range: Range<u64>, flags: u32) -> Self {
        let len = range.end - range.start;
        Self {
            flags,
            offset: self.offset + range.start,
            virtual_address: self.virtual_address + range.start,
            physical_address: self.physical_address + range.start,
            file_bytes: len,
            memory_bytes: len,
            alignment: PAGE,
        }
    }

    /// Its part of the file.
    pub(super) fn bytes<'a>(&self, file: &'a [u8]) -> Result<&'a [u8]> {
        let (start, len) = (self.offset as usize, self.file_bytes as usize);
        file.get(start..)
            .and_then(|rest| rest.get(..len))
            .context("a segment lies outside its file")
    }
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

/// The segments that are loaded.
pub(super) fn segments(path: &Path) -> Result<Vec<Segment>> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut header = [0; FILE_HEADER];
    file.read_exact(&mut header)
        .with_context(|| format!("read the ELF header of {}", path.display()))?;
    ensure!(
        header.starts_with(b"\x7fELF\x02\x01"),
        "{} is not a 64-bit little-endian ELF file",
        path.display()
    );
    let count = usize::from(u16::from_le_bytes([header[56], header[57]]));
    let mut table = vec![0; count * PROGRAM_HEADER];
    file.read_exact_at(&mut table, u64_at(&header, 32))
        .with_context(|| format!("read the program headers of {}", path.display()))?;
    Ok(table
        .chunks_exact(PROGRAM_HEADER)
        .filter_map(Segment::parse)
        .collect())
}

/// The little-endian number at `offset` of a header that is long enough.
pub(super) fn u64_at(header: &[u8], offset: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[offset..offset + 8]);
    u64::from_le_bytes(bytes)
}

/// Where in the file the byte at a virtual address is.
pub(super) fn offset(linked: &[Segment], address: u64) -> Result<usize> {
    let holds = |segment: &&Segment| {
        (segment.virtual_address..segment.virtual_address + segment.file_bytes).contains(&address)
    };
    let segment = linked
        .iter()
        .find(holds)
        .with_context(|| format!("no segment holds {address:#x}"))?;
    Ok((segment.offset + (address - segment.virtual_address)) as usize)
}

/// The little-endian number at an offset of the file.
pub(super) fn i32_at(image: &[u8], at: usize) -> Result<i32> {
    let bytes = image.get(at..at + 4).context("the image is too short")?;
    Ok(i32::from_le_bytes(bytes.try_into()?))
}
