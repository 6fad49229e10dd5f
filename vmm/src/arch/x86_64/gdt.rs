//! The global descriptor table of the boot processor.
//!
//! The boot protocol wants flat segments, the code at selector 0x10 and the
//! data at 0x18.

use kvm_bindings::kvm_segment;

/// Code, readable, accessed.
const TYPE_CODE: u8 = 0xb;
/// Data, writable, accessed.
const TYPE_DATA: u8 = 0x3;
/// 64-bit TSS, busy.
const TYPE_TSS: u8 = 0xb;

/// The table, as it lies in memory.
pub const TABLE: [u64; 6] = [
    0,
    0,
    descriptor(&CODE),
    descriptor(&DATA),
    descriptor(&TSS),
    0, // upper half of the TSS's base
];

/// What CS is loaded with.
pub const CODE: kvm_segment = kvm_segment {
    selector: 0x10,
    type_: TYPE_CODE,
    s: 1,
    l: 1,
    g: 1,
    limit: 0xffff_ffff,
    ..EMPTY
};

/// What DS, ES, FS, GS and SS are loaded with.
pub const DATA: kvm_segment = kvm_segment {
    selector: 0x18,
    type_: TYPE_DATA,
    s: 1,
    db: 1,
    g: 1,
    limit: 0xffff_ffff,
    ..EMPTY
};

/// What TR is loaded with: processors demand a valid one for VM entry.
pub const TSS: kvm_segment = kvm_segment {
    selector: 0x20,
    type_: TYPE_TSS,
    limit: 0x67,
    ..EMPTY
};

const EMPTY: kvm_segment = kvm_segment {
    base: 0,
    limit: 0,
    selector: 0,
    type_: 0,
    present: 1,
    dpl: 0,
    db: 0,
    s: 0,
    l: 0,
    g: 0,
    avl: 0,
    unusable: 0,
    padding: 0,
};

/// The descriptor of a segment with base 0 (Intel SDM volume 3, figure 3-8).
const fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = if segment.g == 1 {
        segment.limit >> 12
    } else {
        segment.limit
    } as u64;
    (limit & 0xffff)
        | (segment.type_ as u64) << 40
        | (segment.s as u64) << 44
        | (segment.dpl as u64) << 45
        | (segment.present as u64) << 47
        | (limit >> 16 & 0xf) << 48
        | (segment.l as u64) << 53
        | (segment.db as u64) << 54
        | (segment.g as u64) << 55
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_those_of_flat_segments() {
        assert_eq!(TABLE[2], 0x00af_9b00_0000_ffff);
        assert_eq!(TABLE[3], 0x00cf_9300_0000_ffff);
        assert_eq!(TABLE[4], 0x0000_8b00_0000_0067);
    }

    #[test]
    fn selectors_point_at_their_descriptors() {
        assert_eq!(TABLE[usize::from(CODE.selector) / 8], descriptor(&CODE));
        assert_eq!(TABLE[usize::from(DATA.selector) / 8], descriptor(&DATA));
        assert_eq!(TABLE[usize::from(TSS.selector) / 8], descriptor(&TSS));
    }
}
