//! Loads the guest's kernel: an uncompressed ELF image, `vmlinux`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use vm_memory::GuestAddress;

use super::elf::{ElfError, FILE_HEADER_SIZE, FileHeader, LoadPlan};
use crate::memory::{self, GuestMemory, MemoryError};

/// Why the kernel cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The file cannot be opened.
    #[error("cannot open the guest's kernel {path:?}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read the guest's kernel {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a kernel image.
    #[error(
        "the guest's kernel {path:?} cannot be loaded: give an uncompressed vmlinux for x86-64"
    )]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ElfError,
    },
    /// It could not be brought into memory.
    #[error("cannot load the guest's kernel {path:?}")]
    Memory {
        /// The file.
        path: PathBuf,
        /// Why.
        source: MemoryError,
    },
}

/// A kernel in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its first instruction.
    pub entry: GuestAddress,
    /// The first address after it.
    pub end: GuestAddress,
}

/// Loads the kernel at `path` into RAM that ends at `ram_end` without a gap.
pub fn load(memory: &GuestMemory, path: &Path, ram_end: u64) -> Result<Kernel, KernelError> {
    let path = || path.to_owned();
    let file = File::open(path()).map_err(|source| KernelError::Open {
        path: path(),
        source,
    })?;
    let plan = read_plan(&file, ram_end).map_err(|error| match error {
        PlanError::Read(source) => KernelError::Read {
            path: path(),
            source,
        },
        PlanError::Elf(source) => KernelError::Elf {
            path: path(),
            source,
        },
    })?;
    for piece in &plan.pieces {
        let bring = if piece.mappable {
            memory::map_file
        } else {
            memory::copy_file
        };
        bring(
            memory,
            &file,
            piece.offset,
            GuestAddress(piece.address),
            piece.len,
        )
        .map_err(|source| KernelError::Memory {
            path: path(),
            source,
        })?;
    }
    Ok(Kernel {
        entry: GuestAddress(plan.entry),
        end: GuestAddress(plan.end),
    })
}

enum PlanError {
    Read(io::Error),
    Elf(ElfError),
}

fn read_plan(file: &File, ram_end: u64) -> Result<LoadPlan, PlanError> {
    let file_len = file.metadata().map_err(PlanError::Read)?.len();
    let mut header = [0; FILE_HEADER_SIZE];
    // A shorter file leaves zeros, which are no ELF header.
    file.read_at(&mut header, 0).map_err(PlanError::Read)?;
    let header = FileHeader::parse(&header, file_len).map_err(PlanError::Elf)?;
    let program_headers = read_range(file, &header.program_headers)?;
    header
        .plan(&program_headers, file_len, ram_end)
        .map_err(PlanError::Elf)
}

fn read_range(file: &File, range: &Range<u64>) -> Result<Vec<u8>, PlanError> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut bytes, range.start)
        .map_err(PlanError::Read)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const RAM: u64 = 16 << 20;

    fn load_bytes(bytes: &[u8]) -> Result<Kernel, KernelError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        load(&memory::allocate(RAM).unwrap(), file.path(), RAM)
    }

    #[test]
    fn missing_kernel_is_named() {
        let memory = memory::allocate(RAM).unwrap();
        let error = load(&memory, Path::new("/nonexistent/vmlinux"), RAM).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"cannot open the guest's kernel "/nonexistent/vmlinux""#
        );
    }

    #[test]
    fn what_is_not_an_elf_file_is_refused() {
        for bytes in [&b""[..], b"\x7fEL", b"#!/bin/sh\n", &[0; 4096]] {
            let error = load_bytes(bytes).unwrap_err();
            assert!(
                matches!(
                    error,
                    KernelError::Elf {
                        source: ElfError::NotElf,
                        ..
                    }
                ),
                "{error}"
            );
        }
    }

    #[test]
    fn truncated_kernel_is_refused() {
        let mut bytes = [0; FILE_HEADER_SIZE];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16..20].copy_from_slice(&[2, 0, 62, 0]);
        bytes[32] = 64;
        bytes[54..58].copy_from_slice(&[56, 0, 5, 0]);
        let error = load_bytes(&bytes).unwrap_err();
        assert!(
            matches!(
                error,
                KernelError::Elf {
                    source: ElfError::Truncated { needed: 344, .. },
                    ..
                }
            ),
            "{error}"
        );
    }
}
