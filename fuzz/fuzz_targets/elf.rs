//! A kernel image's headers, and the plan to load it.
#![no_main]

use std::ops::Range;

use bulkhead_vmm::arch::x86_64::layout::{HIGH_MEMORY, PAGE_SIZE};
use bulkhead_vmm::kernel::elf::{FILE_HEADER_SIZE, FileHeader};
use libfuzzer_sys::fuzz_target;

const RAM_END: u64 = 128 << 20;
/// What the input does not say of the file is zero.
const FILE_LEN: u64 = 64 << 20;

fn range(file: &[u8], range: &Range<u64>) -> Vec<u8> {
    let start = usize::try_from(range.start).unwrap();
    let len = usize::try_from(range.end - range.start).unwrap();
    let mut bytes: Vec<u8> = file.iter().copied().skip(start).take(len).collect();
    bytes.resize(len, 0);
    bytes
}

fuzz_target!(|file: &[u8]| {
    let header = range(file, &(0..FILE_HEADER_SIZE as u64));
    let header: [u8; FILE_HEADER_SIZE] = header.try_into().unwrap();
    let Ok(header) = FileHeader::parse(&header, FILE_LEN) else {
        return;
    };
    let programs = range(file, &header.program_headers);
    let Ok(plan) = header.plan(&programs, FILE_LEN, RAM_END) else {
        return;
    };
    assert!((HIGH_MEMORY.0..plan.end).contains(&plan.entry));
    assert!(plan.end <= RAM_END);
    let mut end = HIGH_MEMORY.0;
    for piece in &plan.pieces {
        assert!(piece.address >= end, "pieces overlap");
        end = piece.address + piece.len;
        assert!(end <= plan.end);
        assert!(piece.offset + piece.len <= FILE_LEN);
        if piece.mappable {
            for number in [piece.offset, piece.address, piece.len] {
                assert!(number.is_multiple_of(PAGE_SIZE));
            }
        }
    }
});
