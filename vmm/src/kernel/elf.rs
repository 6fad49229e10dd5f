//! Reads the headers of an ELF kernel image and plans how to load it.
//!
//! All of it is arithmetic on bytes that nobody vouches for: an image is loaded
//! as planned here or refused, and nothing is out of bounds of the file or of
//! RAM (see the property tests).

use std::ops::Range;

use crate::arch::x86_64::layout::{HIGH_MEMORY, PAGE_SIZE};

/// Size of the file header.
pub const FILE_HEADER_SIZE: usize = 64;
/// Size of a program header.
const PROGRAM_HEADER_SIZE: u16 = 56;
/// Greatest number of program headers. Kernels have some 20.
const HEADERS_MAX: u16 = 1024;

const MAGIC: [u8; 4] = *b"\x7fELF";
const CLASS_64: u8 = 2;
const DATA_LITTLE_ENDIAN: u8 = 1;
const TYPE_EXECUTABLE: u16 = 2;
const MACHINE_X86_64: u16 = 62;
const SEGMENT_LOAD: u32 = 1;
/// Set by the build of our kernels, in the bits that ELF leaves to operating
/// systems (`PF_MASKOS`): the kernel neither frees the segment's pages, nor hands
/// them to devices, and writes to few of them.
pub const SEGMENT_CONSTANT: u32 = 1 << 20;

/// Why an image cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// The magic number is missing.
    #[error("not an ELF file")]
    NotElf,
    /// Not for a 64-bit little-endian machine.
    #[error("not a 64-bit little-endian ELF file (class {class}, data encoding {data})")]
    WrongFormat {
        /// `EI_CLASS`.
        class: u8,
        /// `EI_DATA`.
        data: u8,
    },
    /// For another processor.
    #[error("made for ELF machine {machine}, not x86-64")]
    WrongMachine {
        /// `e_machine`.
        machine: u16,
    },
    /// An object file, a library or a dump.
    #[error("not an executable (ELF type {elf_type})")]
    NotExecutable {
        /// `e_type`.
        elf_type: u16,
    },
    /// Program headers of a size or number that the format does not have.
    #[error("{count} program headers of {size} bytes make no sense")]
    BadHeaders {
        /// How many there are said to be.
        count: u16,
        /// Their size.
        size: u16,
    },
    /// The file is shorter than its headers say.
    #[error("truncated: needs {needed:#x} bytes, has {file_len:#x}")]
    Truncated {
        /// The length that the headers ask for; the greatest number if more.
        needed: u64,
        /// The file's.
        file_len: u64,
    },
    /// Nothing to load.
    #[error("nothing to load in it")]
    NoSegments,
    /// A segment does not fit into the guest's memory.
    #[error(
        "segment of {len:#x} bytes at {address:#x} is outside the guest's RAM, {ram_start:#x} to {ram_end:#x}"
    )]
    OutsideRam {
        /// Where the segment goes.
        address: u64,
        /// Its length in memory.
        len: u64,
        /// Where the memory for kernels starts.
        ram_start: u64,
        /// Where it ends.
        ram_end: u64,
    },
    /// Segments overlap or are not sorted by address.
    #[error("segment at {address:#x} overlaps one before it")]
    Overlap {
        /// Where the second goes.
        address: u64,
    },
    /// A segment has more bytes in the file than in memory.
    #[error(
        "segment at {address:#x} has {file_size:#x} bytes in the file but only {memory_size:#x} in memory"
    )]
    LargerInFile {
        /// Where the segment goes.
        address: u64,
        /// Its length in the file.
        file_size: u64,
        /// Its length in memory.
        memory_size: u64,
    },
    /// The entry point is in no segment.
    #[error("entry point {entry:#x} is in no segment")]
    BadEntry {
        /// `e_entry`.
        entry: u64,
    },
}

/// Where in the file the program headers are, and where the code starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Physical address of the first instruction.
    pub entry: u64,
    /// Where the program headers are in the file.
    pub program_headers: Range<u64>,
}

/// Part of a file that goes to one place in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it starts in the file.
    pub offset: u64,
    /// Where it goes in guest memory.
    pub address: u64,
    /// Its length.
    pub len: u64,
    /// Whether it may be mapped rather than copied: it consists of whole pages,
    /// of a segment that is [constant](SEGMENT_CONSTANT).
    pub mappable: bool,
}

/// How to load an image. Memory that no piece covers stays zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadPlan {
    /// Physical address of the first instruction.
    pub entry: u64,
    /// What goes where, sorted by address, without overlaps.
    pub pieces: Vec<Piece>,
    /// The first address after the kernel, its zeroed memory included.
    pub end: u64,
}

impl FileHeader {
    /// Reads the file header.
    pub fn parse(bytes: &[u8; FILE_HEADER_SIZE], file_len: u64) -> Result<Self, ElfError> {
        let u16_at = |at: usize| u16::from_le_bytes(array(bytes, at));
        let u64_at = |at: usize| u64::from_le_bytes(array(bytes, at));
        let (class, data) = (bytes[4], bytes[5]);
        if bytes[..4] != MAGIC {
            return Err(ElfError::NotElf);
        }
        if (class, data) != (CLASS_64, DATA_LITTLE_ENDIAN) {
            return Err(ElfError::WrongFormat { class, data });
        }
        if u16_at(18) != MACHINE_X86_64 {
            return Err(ElfError::WrongMachine {
                machine: u16_at(18),
            });
        }
        if u16_at(16) != TYPE_EXECUTABLE {
            return Err(ElfError::NotExecutable {
                elf_type: u16_at(16),
            });
        }
        Ok(Self {
            entry: u64_at(24),
            program_headers: headers(u64_at(32), u16_at(54), u16_at(56), file_len)?,
        })
    }

    /// Plans the loading of the image whose headers these are into RAM that ends
    /// at `ram_end`.
    pub fn plan(
        &self,
        program_headers: &[u8],
        file_len: u64,
        ram_end: u64,
    ) -> Result<LoadPlan, ElfError> {
        let segments: Vec<Segment> = program_headers
            .chunks_exact(usize::from(PROGRAM_HEADER_SIZE))
            .filter_map(Segment::parse)
            .collect();
        let mut end = HIGH_MEMORY.0;
        for segment in &segments {
            segment.check(file_len, ram_end)?;
            if segment.address < end {
                return Err(ElfError::Overlap {
                    address: segment.address,
                });
            }
            end = segment.address + segment.memory_size;
        }
        if segments.is_empty() {
            return Err(ElfError::NoSegments);
        }
        if !segments.iter().any(|segment| segment.holds(self.entry)) {
            return Err(ElfError::BadEntry { entry: self.entry });
        }
        let pieces = segments.iter().filter_map(Segment::piece).collect();
        Ok(LoadPlan {
            entry: self.entry,
            pieces,
            end,
        })
    }
}

/// A segment that is to be loaded.
struct Segment {
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
    constant: bool,
}

impl Segment {
    fn parse(header: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| u32::from_le_bytes(array(header, at));
        let u64_at = |at: usize| u64::from_le_bytes(array(header, at));
        let segment = Self {
            offset: u64_at(8),
            address: u64_at(24), // physical
            file_size: u64_at(32),
            memory_size: u64_at(40),
            constant: u32_at(4) & SEGMENT_CONSTANT != 0,
        };
        (u32_at(0) == SEGMENT_LOAD && segment.memory_size > 0).then_some(segment)
    }

    fn check(&self, file_len: u64, ram_end: u64) -> Result<(), ElfError> {
        let &Self {
            offset,
            address,
            file_size,
            memory_size,
            ..
        } = self;
        if file_size > memory_size {
            return Err(ElfError::LargerInFile {
                address,
                file_size,
                memory_size,
            });
        }
        check_in_file(offset, file_size, file_len)?;
        let in_ram = address
            .checked_add(memory_size)
            .is_some_and(|end| end <= ram_end);
        if address < HIGH_MEMORY.0 || !in_ram {
            return Err(ElfError::OutsideRam {
                address,
                len: memory_size,
                ram_start: HIGH_MEMORY.0,
                ram_end,
            });
        }
        Ok(())
    }

    fn holds(&self, address: u64) -> bool {
        (self.address..self.address + self.memory_size).contains(&address)
    }

    /// What of it is in the file, if anything is.
    fn piece(&self) -> Option<Piece> {
        let whole_pages = [self.offset, self.address, self.file_size]
            .iter()
            .all(|number| number.is_multiple_of(PAGE_SIZE));
        (self.file_size > 0).then_some(Piece {
            offset: self.offset,
            address: self.address,
            len: self.file_size,
            mappable: self.constant && whole_pages,
        })
    }
}

fn headers(offset: u64, size: u16, count: u16, file_len: u64) -> Result<Range<u64>, ElfError> {
    if count == 0 {
        return Ok(0..0);
    }
    if size != PROGRAM_HEADER_SIZE || count > HEADERS_MAX {
        return Err(ElfError::BadHeaders { count, size });
    }
    let len = u64::from(size) * u64::from(count);
    check_in_file(offset, len, file_len)?;
    Ok(offset..offset + len)
}

fn check_in_file(offset: u64, len: u64, file_len: u64) -> Result<(), ElfError> {
    match offset.checked_add(len) {
        Some(end) if end <= file_len => Ok(()),
        end => Err(ElfError::Truncated {
            needed: end.unwrap_or(u64::MAX),
            file_len,
        }),
    }
}

/// The `N` bytes at `at`, which the caller knows to be there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
