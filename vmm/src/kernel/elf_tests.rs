//! Tests of the ELF loader's arithmetic.

use proptest::prelude::*;

use super::*;

const RAM_END: u64 = 128 << 20;

#[derive(Debug)]
struct TestSegment {
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
    flags: u32,
}

/// Header bytes of an image; the file itself is only a length.
struct TestImage {
    header: [u8; FILE_HEADER_SIZE],
    program_headers: Vec<u8>,
    file_len: u64,
}

impl TestImage {
    fn new(entry: u64, segments: &[TestSegment]) -> Self {
        let mut header = [0; FILE_HEADER_SIZE];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(4, &[CLASS_64, DATA_LITTLE_ENDIAN]);
        put(16, &TYPE_EXECUTABLE.to_le_bytes());
        put(18, &MACHINE_X86_64.to_le_bytes());
        put(24, &entry.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(54, &PROGRAM_HEADER_SIZE.to_le_bytes());
        put(56, &(segments.len() as u16).to_le_bytes());
        Self {
            header,
            program_headers: segments.iter().flat_map(program_header).collect(),
            file_len: 64 << 20,
        }
    }

    fn plan(&self) -> Result<LoadPlan, ElfError> {
        FileHeader::parse(&self.header, self.file_len)?.plan(
            &self.program_headers,
            self.file_len,
            RAM_END,
        )
    }
}

fn program_header(segment: &TestSegment) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(SEGMENT_LOAD.to_le_bytes());
    header.extend(segment.flags.to_le_bytes());
    header.extend(segment.offset.to_le_bytes());
    header.extend(0xffff_ffff_8100_0000u64.to_le_bytes()); // virtual
    header.extend(segment.address.to_le_bytes());
    header.extend(segment.file_size.to_le_bytes());
    header.extend(segment.memory_size.to_le_bytes());
    header.extend(0x20_0000u64.to_le_bytes());
    header
}

fn text() -> TestSegment {
    TestSegment {
        offset: 0x20_0000,
        address: 0x100_0000,
        file_size: 0x5000,
        memory_size: 0x5000,
        flags: 0b101,
    }
}

fn data() -> TestSegment {
    TestSegment {
        offset: 0x40_0000,
        address: 0x120_0000,
        file_size: 0x2000,
        memory_size: 0x3000,
        flags: 0b110,
    }
}

fn pieces(segment: TestSegment) -> Vec<(u64, u64, bool)> {
    let plan = TestImage::new(segment.address, &[segment]).plan().unwrap();
    let piece = |piece: &Piece| (piece.address, piece.len, piece.mappable);
    plan.pieces.iter().map(piece).collect()
}

#[test]
fn segments_are_copied() {
    let plan = TestImage::new(0x100_0000, &[text(), data()])
        .plan()
        .unwrap();
    assert!(plan.pieces.iter().all(|piece| !piece.mappable));
    assert_eq!(plan.end, 0x120_3000);
}

#[test]
fn constant_segment_is_mapped() {
    let flags = 0b100 | SEGMENT_CONSTANT;
    let constant = TestSegment { flags, ..text() };
    assert_eq!(pieces(constant), [(0x100_0000, 0x5000, true)]);
}

#[test]
fn constant_segment_of_broken_pages_is_copied() {
    let flags = 0b100 | SEGMENT_CONSTANT;
    let shifted = TestSegment {
        flags,
        offset: 0x20_0010,
        ..text()
    };
    let short = TestSegment {
        flags,
        file_size: 0x4fff,
        ..text()
    };
    assert_eq!(pieces(shifted), [(0x100_0000, 0x5000, false)]);
    assert_eq!(pieces(short), [(0x100_0000, 0x4fff, false)]);
}

#[test]
fn other_files_are_refused() {
    let good = || TestImage::new(0x100_0000, &[text()]);
    let with = |at: usize, byte: u8| {
        let mut image = good();
        image.header[at] = byte;
        image.plan().unwrap_err()
    };
    assert!(good().plan().is_ok());
    assert_eq!(with(0, b'M'), ElfError::NotElf);
    assert_eq!(with(4, 1), ElfError::WrongFormat { class: 1, data: 1 });
    assert_eq!(with(18, 183), ElfError::WrongMachine { machine: 183 });
    assert_eq!(with(16, 1), ElfError::NotExecutable { elf_type: 1 });
    assert_eq!(with(54, 32), ElfError::BadHeaders { count: 1, size: 32 });
}

#[test]
fn truncated_file_is_refused() {
    let mut image = TestImage::new(0x100_0000, &[text()]);
    image.file_len = 0x20_4fff;
    assert_eq!(
        image.plan().unwrap_err(),
        ElfError::Truncated {
            needed: 0x20_5000,
            file_len: 0x20_4fff
        }
    );
}

#[test]
fn segment_outside_ram_is_refused() {
    for address in [0, 0xf_f000, RAM_END - 0x4fff, u64::MAX - 0x1000] {
        let segment = TestSegment { address, ..text() };
        let error = TestImage::new(address, &[segment]).plan().unwrap_err();
        assert!(matches!(error, ElfError::OutsideRam { .. }), "{error}");
    }
}

#[test]
fn overlapping_segments_are_refused() {
    let second = TestSegment {
        address: 0x100_4000,
        ..data()
    };
    let error = TestImage::new(0x100_0000, &[text(), second])
        .plan()
        .unwrap_err();
    assert_eq!(
        error,
        ElfError::Overlap {
            address: 0x100_4000
        }
    );
}

#[test]
fn image_without_segments_or_entry_is_refused() {
    assert_eq!(
        TestImage::new(0, &[]).plan().unwrap_err(),
        ElfError::NoSegments
    );
    let error = TestImage::new(0x200_0000, &[text()]).plan().unwrap_err();
    assert_eq!(error, ElfError::BadEntry { entry: 0x200_0000 });
}

/// A number as hostile files have them: around pages, RAM, and overflow.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0u64..64).prop_map(|page| page * 0x800),
        (0u64..RAM_END),
        (HIGH_MEMORY.0..HIGH_MEMORY.0 + 0x10_0000),
        any::<u64>(),
        (0u64..0x3000).prop_map(|n| u64::MAX - n),
    ]
}

prop_compose! {
    fn segment()(
        offset in number(),
        address in number(),
        file_size in number(),
        memory_size in number(),
        flags in prop_oneof![Just(0b101), Just(0b100 | SEGMENT_CONSTANT)],
    ) -> TestSegment {
        TestSegment { offset, address, file_size, memory_size, flags }
    }
}

fn check_plan(plan: &LoadPlan, file_len: u64) {
    let mut end = HIGH_MEMORY.0;
    for piece in &plan.pieces {
        assert!(piece.address >= end, "pieces overlap");
        end = piece.address + piece.len;
        assert!(end <= plan.end && plan.end <= RAM_END);
        assert!(piece.offset + piece.len <= file_len);
        if piece.mappable {
            for number in [piece.offset, piece.address, piece.len] {
                assert_eq!(number % PAGE_SIZE, 0);
            }
        }
    }
}

proptest! {
    #[test]
    fn plan_of_any_headers_stays_in_bounds(
        entry in number(),
        segments in proptest::collection::vec(segment(), 0..4),
    ) {
        let image = TestImage::new(entry, &segments);
        if let Ok(plan) = image.plan() {
            check_plan(&plan, image.file_len);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_planned(
        mut header in proptest::array::uniform32(any::<u8>()),
        rest in proptest::array::uniform32(any::<u8>()),
        programs in proptest::collection::vec(any::<u8>(), 0..300),
        file_len in number(),
    ) {
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[16..20].copy_from_slice(&[2, 0, 62, 0]);
        let mut bytes = [0; FILE_HEADER_SIZE];
        bytes[..32].copy_from_slice(&header);
        bytes[32..].copy_from_slice(&rest);
        if let Ok(header) = FileHeader::parse(&bytes, file_len)
            && let Ok(plan) = header.plan(&programs, file_len, RAM_END)
        {
            check_plan(&plan, file_len);
        }
    }
}
