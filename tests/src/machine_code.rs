//! 'Kernels' of a few instructions, as ELF files.
//!
//! Hand-made, because each must do exactly one thing, from its first
//! instruction on.

use bulkhead_benches::machine_code::executable;

/// 1 MiB: above what the boot tables use, below the first memory hole's end.
const KERNEL_ADDRESS: u64 = 0x10_0000;

/// Faults at once; with no interrupt table that is a triple fault.
pub const TRIPLE_FAULT: &[u8] = &[
    0x0f, 0x0b, // ud2
];

/// Never gets anywhere.
pub const LOOP: &[u8] = &[
    0xeb, 0xfe, // 1: jmp 1b
];

/// Writes the power-off value to the power port, then waits.
pub const POWER_OFF: &[u8] = &[
    0x66, 0xba, 0x04, 0x06, // mov dx, 0x604
    0x66, 0xb8, 0x00, 0x20, // mov ax, 0x2000
    0x66, 0xef, // out dx, ax
    0xeb, 0xfe, // 1: jmp 1b
];

/// Writes the reset command to the keyboard controller, then waits.
pub const RESET: &[u8] = &[
    0xb0, 0xfe, // mov al, 0xfe
    0xe6, 0x64, // out 0x64, al
    0xeb, 0xfe, // 1: jmp 1b
];

/// A 64-bit kernel that consists of `code`.
pub fn kernel(code: &[u8]) -> Vec<u8> {
    executable(code, KERNEL_ADDRESS)
}
