//! Page tables for the jump into the kernel: the first GiB, mapped to itself.
//!
//! That covers all that the boot protocol wants mapped. The kernel builds its
//! own tables in its first instructions.

use vm_memory::{Bytes, GuestMemoryError};

use super::layout::{PD, PDPT, PML4};
use crate::memory::GuestMemory;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const LARGE_PAGE_SIZE: u64 = 2 << 20;

/// Writes the tables.
pub fn write(memory: &GuestMemory) -> Result<(), GuestMemoryError> {
    memory.write_obj(PDPT.0 | PRESENT | WRITABLE, PML4)?;
    memory.write_obj(PD.0 | PRESENT | WRITABLE, PDPT)?;
    let mut pages = [[0u8; 8]; 512];
    for (index, entry) in pages.iter_mut().enumerate() {
        let address = index as u64 * LARGE_PAGE_SIZE;
        *entry = (address | PRESENT | WRITABLE | LARGE).to_le_bytes();
    }
    memory.write_slice(pages.as_flattened(), PD)
}

#[cfg(test)]
mod tests {
    use vm_memory::{GuestAddress, GuestMemoryMmap};

    use super::*;

    fn walk(memory: &GuestMemory, address: u64) -> u64 {
        let entry = |table: u64, shift: u32| -> u64 {
            let index = address >> shift & 0x1ff;
            memory
                .read_obj(GuestAddress((table & !0xfff) + index * 8))
                .unwrap()
        };
        let pdpt = entry(PML4.0, 39);
        let pd = entry(pdpt, 30);
        let page = entry(pd, 21);
        assert_eq!(pdpt & pd & page & PRESENT, PRESENT);
        assert_eq!(page & LARGE, LARGE);
        (page & !0x1f_ffff) + (address & 0x1f_ffff)
    }

    #[test]
    fn first_gib_maps_to_itself() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        write(&memory).unwrap();
        for address in [0, 0x7000, 0x100_0000, 0x123_4567, (1 << 30) - 1] {
            assert_eq!(walk(&memory, address), address);
        }
    }
}
