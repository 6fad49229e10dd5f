//! The boot parameters ("zero page") and the memory map in them.

use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::layout::{BASE_MEMORY_END, CMDLINE, HIGH_MEMORY, ZERO_PAGE, ram_ranges};
use crate::memory::GuestMemory;

const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: u32 = 0x5372_6448; // "HdrS"
/// A boot loader without an assigned number.
const LOADER_UNDEFINED: u8 = 0xff;
const E820_RAM: u32 = 1;

/// A range of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it starts.
    pub start: GuestAddress,
    /// How many bytes it has.
    pub len: u64,
}

/// Writes the boot parameters of a guest with `ram_size` bytes of RAM.
///
/// `cmdline_size` counts the terminating zero of the command line at
/// [`CMDLINE`].
pub fn write(
    memory: &GuestMemory,
    ram_size: u64,
    cmdline_size: usize,
    initramfs: Option<Range>,
) -> Result<(), GuestMemoryError> {
    let initramfs = initramfs.unwrap_or(Range {
        start: GuestAddress(0),
        len: 0,
    });
    let mut params = boot_params {
        hdr: setup_header {
            boot_flag: BOOT_FLAG,
            header: HEADER_MAGIC,
            type_of_loader: LOADER_UNDEFINED,
            cmd_line_ptr: CMDLINE.0 as u32,
            cmdline_size: cmdline_size as u32,
            // Below the hole, so 32 bits suffice for both.
            ramdisk_image: initramfs.start.0 as u32,
            ramdisk_size: initramfs.len as u32,
            ..Default::default()
        },
        ..Default::default()
    };
    for (slot, range) in params.e820_table.iter_mut().zip(memory_map(ram_size)) {
        *slot = boot_e820_entry {
            addr: range.start.0,
            size: range.len,
            type_: E820_RAM,
        };
        params.e820_entries += 1;
    }
    memory.write_obj(params, ZERO_PAGE)
}

/// The RAM that the kernel may use. Whatever is not in the map is reserved.
fn memory_map(ram_size: u64) -> impl Iterator<Item = Range> {
    let [low, high] = ram_ranges(ram_size);
    [
        Range {
            start: GuestAddress(0),
            len: BASE_MEMORY_END.0,
        },
        Range {
            start: HIGH_MEMORY,
            len: low.1.saturating_sub(HIGH_MEMORY.0),
        },
        Range {
            start: high.0,
            len: high.1,
        },
    ]
    .into_iter()
    .filter(|range| range.len > 0)
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestMemoryMmap;

    use super::*;

    fn written(ram_size: u64, initramfs: Option<Range>) -> boot_params {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        write(&memory, ram_size, 10, initramfs).unwrap();
        memory.read_obj(ZERO_PAGE).unwrap()
    }

    #[test]
    fn header_is_recognised_and_points_at_the_command_line() {
        let header = written(128 << 20, None).hdr;
        let (flag, magic, cmdline) = (header.boot_flag, header.header, header.cmd_line_ptr);
        assert_eq!((flag, magic, cmdline), (0xaa55, 0x5372_6448, 0x2_0000));
    }

    #[test]
    fn memory_map_leaves_out_firmware_and_hole() {
        let params = written(5 << 30, None);
        assert_eq!(params.e820_entries, 3);
        let map: Vec<(u64, u64)> = params.e820_table[..3]
            .iter()
            .map(|entry| (entry.addr, entry.addr + entry.size))
            .collect();
        assert_eq!(map, [(0, 0x9_f000), (1 << 20, 3 << 30), (4 << 30, 6 << 30)]);
    }

    #[test]
    fn initramfs_is_told() {
        let initramfs = Range {
            start: GuestAddress(0x700_0000),
            len: 4097,
        };
        let header = written(128 << 20, Some(initramfs)).hdr;
        let (image, size) = (header.ramdisk_image, header.ramdisk_size);
        assert_eq!((image, size), (0x700_0000, 4097));
    }
}
