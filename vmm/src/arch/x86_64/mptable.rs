//! The MP table, which tells a kernel without ACPI of processors and interrupts
//! (Intel `MultiProcessor` Specification 1.4).

use vm_memory::{Bytes, GuestMemoryError};

use super::layout::{IO_APIC, LOCAL_APIC, MP_FLOATING_POINTER, MP_TABLE};
use crate::memory::GuestMemory;

/// How many vCPUs can be described: their APIC ids fit in a byte, and the table
/// in its place.
pub const VCPUS_MAX: u8 = 64;

const SPEC_REVISION: u8 = 4;
/// Version of an integrated local APIC.
const LOCAL_APIC_VERSION: u8 = 0x14;
/// Version of KVM's I/O APIC.
const IO_APIC_VERSION: u8 = 0x11;
const ISA_BUS: u8 = 0;
/// Active high, edge-triggered (4.3.4).
const EDGE_HIGH: u16 = 0b01_01;

/// Entry types (4.3).
mod entry {
    pub(super) const PROCESSOR: u8 = 0;
    pub(super) const BUS: u8 = 1;
    pub(super) const IO_APIC: u8 = 2;
    pub(super) const IO_INTERRUPT: u8 = 3;
    pub(super) const LOCAL_INTERRUPT: u8 = 4;
}

/// Interrupt types (4.3.4).
mod interrupt {
    pub(super) const INT: u8 = 0;
    pub(super) const NMI: u8 = 1;
    pub(super) const EXT_INT: u8 = 3;
}

/// Writes the table for `vcpus` processors, with APIC ids from 0, and for the
/// interrupt lines in `irqs`.
///
/// Only lines in use are listed: Linux sets each listed one up, at the price
/// of several exits.
pub fn write(memory: &GuestMemory, vcpus: u8, irqs: &[u32]) -> Result<(), GuestMemoryError> {
    memory.write_slice(&configuration_table(vcpus, irqs), MP_TABLE)?;
    memory.write_slice(&floating_pointer(), MP_FLOATING_POINTER)
}

/// Section 4.1.
fn floating_pointer() -> Vec<u8> {
    let mut pointer = Vec::with_capacity(16);
    pointer.extend(b"_MP_");
    pointer.extend((MP_TABLE.0 as u32).to_le_bytes());
    pointer.extend([1, SPEC_REVISION, 0]); // length in paragraphs, revision, checksum
    pointer.extend([0; 5]); // there is a configuration table; virtual wire mode
    pointer[10] = checksum(&pointer);
    pointer
}

/// Section 4.2.
fn configuration_table(vcpus: u8, irqs: &[u32]) -> Vec<u8> {
    let (entries, count) = entries(vcpus, irqs);
    let mut table = Vec::with_capacity(44 + entries.len());
    table.extend(b"PCMP");
    table.extend((44 + entries.len() as u16).to_le_bytes());
    table.extend([SPEC_REVISION, 0]); // revision, checksum
    table.extend(b"BULKHEADMICROVM     ");
    table.extend([0; 6]); // no table of the OEM's
    table.extend(count.to_le_bytes());
    table.extend((LOCAL_APIC.0 as u32).to_le_bytes());
    table.extend([0; 4]); // no extended table
    table.extend(entries);
    table[7] = checksum(&table);
    table
}

/// The entries and their number (section 4.3).
fn entries(vcpus: u8, irqs: &[u32]) -> (Vec<u8>, u16) {
    let io_apic_id = vcpus;
    let mut bytes = Vec::new();
    let mut count = 0;
    let mut push = |fields: &[&[u8]]| {
        bytes.extend(fields.concat());
        count += 1;
    };
    for id in 0..vcpus {
        let flags = if id == 0 { 0b11 } else { 0b01 }; // boot processor, enabled
        push(&[&[entry::PROCESSOR, id, LOCAL_APIC_VERSION, flags], &[0; 16]]);
    }
    push(&[&[entry::BUS, ISA_BUS], b"ISA   "]);
    let address = (IO_APIC.0 as u32).to_le_bytes();
    push(&[&[entry::IO_APIC, io_apic_id, IO_APIC_VERSION, 1], &address]);
    let [low, high] = EDGE_HIGH.to_le_bytes();
    for &irq in irqs {
        let irq = irq as u8;
        push(&[&[
            entry::IO_INTERRUPT,
            interrupt::INT,
            low,
            high,
            ISA_BUS,
            irq,
            io_apic_id,
            irq,
        ]]);
    }
    push(&[&[
        entry::LOCAL_INTERRUPT,
        interrupt::EXT_INT,
        0,
        0,
        ISA_BUS,
        0,
        0,
        0,
    ]]);
    push(&[&[
        entry::LOCAL_INTERRUPT,
        interrupt::NMI,
        0,
        0,
        ISA_BUS,
        0,
        0xff,
        1,
    ]]);
    (bytes, count)
}

/// What makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn checksums_are_zero() {
        assert_eq!(floating_pointer().len(), 16);
        assert_eq!(sum(&floating_pointer()), 0);
        for vcpus in [1, 4, VCPUS_MAX] {
            assert_eq!(sum(&configuration_table(vcpus, &[4, 5])), 0);
        }
    }

    #[test]
    fn length_and_count_match_the_entries() {
        let table = configuration_table(4, &[4, 5, 6]);
        assert_eq!(
            usize::from(u16::from_le_bytes([table[4], table[5]])),
            table.len()
        );
        let count = usize::from(u16::from_le_bytes([table[34], table[35]]));
        assert_eq!(count, 4 + 2 + 3 + 2);
        assert_eq!(table.len(), 44 + 4 * 20 + (count - 4) * 8);
    }

    #[test]
    fn largest_table_fits_in_its_place() {
        let irqs: Vec<u32> = (0..24).collect();
        let len = configuration_table(VCPUS_MAX, &irqs).len() as u64;
        assert!(MP_TABLE.0 + len <= MP_FLOATING_POINTER.0);
    }

    #[test]
    fn only_the_first_processor_is_the_boot_processor() {
        let table = configuration_table(3, &[]);
        let flags: Vec<u8> = (0..3).map(|id| table[44 + id * 20 + 3]).collect();
        assert_eq!(flags, [0b11, 0b01, 0b01]);
    }
}
