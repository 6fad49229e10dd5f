//! Lays out the guest kernel's segments for the VMM that loads it.
//!
//! The linker cuts the image by what processors may do with it. A loader wants
//! to know other things of each page:
//!
//! - Code and read-only data are **constant**: the kernel neither frees them, nor
//!   hands them to devices, and writes to few of their pages, when it patches its
//!   code. The VMM maps them, and all guests share what stays as it is.
//! - **Padding** elsewhere need not be loaded.
//! - All else is copied, data that is read-only *after* the kernel's start
//!   included, with the vDSO, which user space can hand to devices.
//!
//! The program headers are written anew accordingly; the image's bytes stay
//! where they are.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::elf::{PAGE, PROGRAM_HEADER, Segment, segments, u64_at};
use super::symbols::Symbols;

/// Goes into the key of cached kernels: to be changed with the layout.
pub(super) const RECIPE: &str = "segments 2";

/// Shorter runs of padding or constant pages are not worth a segment.
const RUN_MIN: u64 = 16;

/// The VMM's `SEGMENT_CONSTANT`.
const FLAG_CONSTANT: u32 = 1 << 20;

/// Rewrites the program headers of the image at `vmlinux`.
pub(super) fn lay_out(vmlinux: &Path, symbols: &Symbols) -> Result<()> {
    let constant = [
        symbols.range("_text", "_etext")?,
        symbols.range("__start_rodata", "__start_ro_after_init")?,
    ];
    let linked = segments(vmlinux)?;
    let mut image = fs::read(vmlinux).with_context(|| format!("read {}", vmlinux.display()))?;
    let mut laid_out = Vec::new();
    for segment in &linked {
        laid_out.extend(split(segment, segment.bytes(&image)?, &constant));
    }
    write_program_headers(&mut image, &laid_out)?;
    fs::write(vmlinux, image).with_context(|| format!("write {}", vmlinux.display()))
}

/// What a page is to the loader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Constant,
    Padding,
    Copied,
}

/// Splits a segment, whose part of the file is `bytes`, by the kinds of pages.
fn split(segment: &Segment, bytes: &[u8], constant: &[Range<u64>]) -> Vec<Segment> {
    let is_constant = |address| {
        let holds = |range: &Range<u64>| range.start <= address && address + PAGE <= range.end;
        constant.iter().any(holds)
    };
    let kind = |(page, address): (&[u8], u64)| {
        let is_whole = page.len() as u64 == PAGE;
        if is_whole && is_constant(address) {
            Kind::Constant
        } else if is_whole && (is_filled(page, 0) || is_filled(page, INT3)) {
            Kind::Padding
        } else {
            Kind::Copied
        }
    };
    let addresses = (segment.virtual_address..).step_by(PAGE as usize);
    let kinds: Vec<Kind> = bytes
        .chunks(PAGE as usize)
        .zip(addresses)
        .map(kind)
        .collect();

    let mut parts = Vec::new();
    let mut first = 0;
    for (kind, pages) in runs(&kinds) {
        let last = first + pages;
        let part = |flags| segment.part(first * PAGE..(last * PAGE).min(segment.file_bytes), flags);
        match kind {
            Kind::Constant => parts.push(part(segment.flags | FLAG_CONSTANT)),
            Kind::Copied => parts.push(part(segment.flags)),
            Kind::Padding => {}
        }
        first = last;
    }
    // What the linker left to be zeroed.
    if segment.memory_bytes > segment.file_bytes {
        parts.push(Segment {
            file_bytes: 0,
            ..segment.part(segment.file_bytes..segment.memory_bytes, segment.flags)
        });
    }
    parts
}

/// What the compiler's `int3` filling consists of.
const INT3: u8 = 0xcc;

fn is_filled(page: &[u8], filling: u8) -> bool {
    page.iter().all(|&byte| byte == filling)
}

/// Runs of pages of one kind; short ones are copied with their neighbours.
fn runs(kinds: &[Kind]) -> Vec<(Kind, u64)> {
    let mut runs: Vec<(Kind, u64)> = Vec::new();
    for run in kinds.chunk_by(|a, b| a == b) {
        let pages = run.len() as u64;
        let kind = if pages < RUN_MIN {
            Kind::Copied
        } else {
            run[0]
        };
        match runs.last_mut() {
            Some((last, sum)) if *last == kind => *sum += pages,
            _ => runs.push((kind, pages)),
        }
    }
    runs
}

/// Puts the headers of `segments` in the place of those of segments to be
/// loaded; headers of other types stay.
fn write_program_headers(image: &mut [u8], segments: &[Segment]) -> Result<()> {
    let table = u64_at(image, 32) as usize;
    let count = usize::from(u16::from_le_bytes([image[56], image[57]]));
    let others: Vec<u8> = image[table..table + count * PROGRAM_HEADER]
        .chunks_exact(PROGRAM_HEADER)
        .filter(|header| !Segment::is_loaded(header))
        .flatten()
        .copied()
        .collect();
    let mut headers: Vec<u8> = segments.iter().flat_map(Segment::header).collect();
    headers.extend(others);

    let room = segments.iter().map(|segment| segment.offset as usize).min();
    let end = table + headers.len();
    ensure!(
        room.is_some_and(|room| end <= room),
        "no room in the image for {} program headers",
        headers.len() / PROGRAM_HEADER
    );
    image[table..end].copy_from_slice(&headers);
    let count = u16::try_from(headers.len() / PROGRAM_HEADER).context("too many segments")?;
    image[56..58].copy_from_slice(&count.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0xffff_ffff_8100_0000;

    fn segment(file_pages: u64, memory_bytes: u64) -> Segment {
        Segment {
            flags: 0b101,
            offset: 0x20_0000,
            virtual_address: START,
            physical_address: 0x100_0000,
            file_bytes: file_pages * PAGE,
            memory_bytes,
            alignment: 0x20_0000,
        }
    }

    /// Pages filled with these bytes, the number of each beside it.
    fn pages(runs: &[(u8, u64)]) -> Vec<u8> {
        runs.iter()
            .flat_map(|&(byte, pages)| vec![byte; (pages * PAGE) as usize])
            .collect()
    }

    fn layout(parts: &[Segment]) -> Vec<(u64, u64, u64, bool)> {
        let layout = |part: &Segment| {
            assert_eq!(part.offset - 0x20_0000, part.physical_address - 0x100_0000);
            assert_eq!(part.virtual_address - START, part.offset - 0x20_0000);
            (
                (part.offset - 0x20_0000) / PAGE,
                part.file_bytes / PAGE,
                part.memory_bytes / PAGE,
                part.flags & FLAG_CONSTANT != 0,
            )
        };
        parts.iter().map(layout).collect()
    }

    #[test]
    fn long_padding_is_left_out_and_read_only_data_is_constant() {
        let bytes = pages(&[(1, 3), (INT3, 20), (2, 1), (0, 15), (3, 30), (4, 5)]);
        let constant = [0..1, START + 39 * PAGE..START + 69 * PAGE + 5];
        let parts = split(&segment(74, 74 * PAGE), &bytes, &constant);
        assert_eq!(
            layout(&parts),
            [
                (0, 3, 3, false),
                (23, 16, 16, false),
                (39, 30, 30, true),
                (69, 5, 5, false)
            ]
        );
    }

    #[test]
    fn memory_beyond_the_file_stays() {
        let bytes = pages(&[(1, 1), (0, 16)]);
        let parts = split(&segment(17, 20 * PAGE), &bytes, &[]);
        assert_eq!(layout(&parts), [(0, 1, 1, false), (17, 0, 3, false)]);
    }

    #[test]
    fn headers_of_other_types_stay() {
        let mut image = vec![0; 4096];
        image[32] = 64;
        image[56] = 2;
        let mut note = [0; PROGRAM_HEADER];
        note[0] = 4;
        image[64..64 + PROGRAM_HEADER].copy_from_slice(&segment(1, PAGE).header());
        image[64 + PROGRAM_HEADER..64 + 2 * PROGRAM_HEADER].copy_from_slice(&note);
        let parts = [segment(1, PAGE), segment(1, PAGE)];
        write_program_headers(&mut image, &parts).unwrap();
        assert_eq!(image[56], 3);
        assert_eq!(
            image[64 + 2 * PROGRAM_HEADER..64 + 3 * PROGRAM_HEADER],
            note
        );
    }
}
