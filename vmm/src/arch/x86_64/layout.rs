//! The guest's physical address space.
//!
//! ```text
//! 0            GDT; warm reboot flag at 0x472
//! 0x7000       boot parameters ("zero page")
//! 0x8000       boot stack, growing down from its end
//! 0x9000       page tables for the jump into the kernel: 3 pages
//! 0x20000      kernel command line
//! 0x9f000      MP table; not in the memory map, so the kernel leaves it alone
//! 0x100000     the kernel, somewhere above; the initramfs at the top
//! 3 GiB        hole: virtio devices, I/O APIC, local APICs
//! 4 GiB        the rest of RAM
//! ```

use vm_memory::GuestAddress;

/// Size of a small page.
pub const PAGE_SIZE: u64 = 0x1000;

/// Where the boot processor's global descriptor table is.
pub const GDT: GuestAddress = GuestAddress(0x500);

/// A 16-bit word in which Linux leaves [`WARM_REBOOT`] when it resets the
/// machine in warm mode, as the BIOS data area has it.
pub const REBOOT_FLAG: GuestAddress = GuestAddress(0x472);
/// See [`REBOOT_FLAG`].
pub const WARM_REBOOT: u16 = 0x1234;

/// The boot parameters.
pub const ZERO_PAGE: GuestAddress = GuestAddress(0x7000);
/// Where the stack pointer starts.
pub const BOOT_STACK_TOP: GuestAddress = GuestAddress(0x8ff0);

/// Top level of the page tables.
pub const PML4: GuestAddress = GuestAddress(0x9000);
/// Second level.
pub const PDPT: GuestAddress = GuestAddress(0xa000);
/// Third level, with pages of 2 MiB.
pub const PD: GuestAddress = GuestAddress(0xb000);

/// The kernel command line.
pub const CMDLINE: GuestAddress = GuestAddress(0x2_0000);
/// Greatest size of the command line with its terminating zero
/// (`COMMAND_LINE_SIZE` in Linux).
pub const CMDLINE_MAX_SIZE: usize = 2048;

/// The MP configuration table. The space to [`MP_FLOATING_POINTER`] is its.
pub const MP_TABLE: GuestAddress = GuestAddress(0x9_f000);
/// The MP floating pointer: in the last KiB of base memory, which is the first
/// place of some size where Linux looks for it.
pub const MP_FLOATING_POINTER: GuestAddress = GuestAddress(0x9_fc00);

/// RAM below this address is in the memory map: what lies between here and
/// [`HIGH_MEMORY`] is the firmware's.
pub const BASE_MEMORY_END: GuestAddress = MP_TABLE;
/// Where the memory above the firmware's begins.
pub const HIGH_MEMORY: GuestAddress = GuestAddress(0x10_0000);

/// No RAM from here…
pub const HOLE_START: GuestAddress = GuestAddress(3 << 30);
/// … to here.
pub const HOLE_END: GuestAddress = GuestAddress(4 << 30);

/// The first virtio device's registers; the others follow.
pub const VIRTIO_MMIO_START: GuestAddress = GuestAddress(0xd000_0000);
/// Space for one virtio device's registers.
pub const VIRTIO_MMIO_SIZE: u64 = PAGE_SIZE;

/// The I/O APIC.
pub const IO_APIC: GuestAddress = GuestAddress(0xfec0_0000);
/// The local APICs.
pub const LOCAL_APIC: GuestAddress = GuestAddress(0xfee0_0000);
/// Three pages that KVM needs on Intel processors without 'unrestricted
/// guest'.
pub const KVM_TSS: GuestAddress = GuestAddress(0xfffb_d000);

/// The serial port's interrupt.
pub const SERIAL_IRQ: u32 = 4;
/// The first virtio device's interrupt; the others follow.
pub const VIRTIO_IRQ_START: u32 = 5;
/// The I/O APIC's last pin.
pub const IRQ_LAST: u32 = 23;
/// How many virtio devices there are interrupts for.
pub const VIRTIO_DEVICES_MAX: usize = (IRQ_LAST - VIRTIO_IRQ_START + 1) as usize;

/// The serial port (COM1) and how many ports it has.
pub const SERIAL_PORT: (u16, u16) = (0x3f8, 8);
/// The keyboard controller's command port, for reset.
pub const RESET_PORT: (u16, u16) = (0x64, 1);
/// The real-time clock's index and data ports.
pub const CMOS_PORT: (u16, u16) = (0x70, 2);
/// The power management control register (`PM1a` of ACPI, where QEMU has it).
pub const POWER_PORT: (u16, u16) = (0x604, 2);

/// Where `size` bytes of RAM are: below the hole, and above it if they do not
/// fit there. The second is empty if they do.
pub fn ram_ranges(size: u64) -> [(GuestAddress, u64); 2] {
    let low = size.min(HOLE_START.0);
    [(GuestAddress(0), low), (HOLE_END, size - low)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_ram_is_one_range() {
        let [low, high] = ram_ranges(128 << 20);
        assert_eq!(low, (GuestAddress(0), 128 << 20));
        assert_eq!(high.1, 0);
    }

    #[test]
    fn large_ram_leaves_out_the_hole() {
        let [low, high] = ram_ranges(5 << 30);
        assert_eq!(low, (GuestAddress(0), 3 << 30));
        assert_eq!(high, (GuestAddress(4 << 30), 2 << 30));
    }

    #[test]
    fn devices_fit_in_the_hole() {
        let end = VIRTIO_MMIO_START.0 + VIRTIO_MMIO_SIZE * VIRTIO_DEVICES_MAX as u64;
        assert!(HOLE_START.0 <= VIRTIO_MMIO_START.0 && end <= IO_APIC.0);
    }
}
