//! Programs and 'kernels' of a few instructions, as ELF files.
//!
//! Hand-made, because each must do exactly one thing, from its first
//! instruction on: no start-up code, no stack, no libc.

const ELF_HEADER_LEN: u64 = 64;
const PROGRAM_HEADER_LEN: u64 = 56;
const CODE_OFFSET: u64 = ELF_HEADER_LEN + PROGRAM_HEADER_LEN;

/// 1 MiB: above what the boot tables use, below the first memory hole's end.
const KERNEL_ADDRESS: u64 = 0x10_0000;
/// The usual place of a static program.
const PROGRAM_ADDRESS: u64 = 0x40_0000;

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

/// A program: as its first instruction reads the time stamp counter, writes
/// its eight bytes (little-endian) to standard output, then waits for a signal.
pub const FIRST_INSTRUCTION: &[u8] = &[
    0x0f, 0x31, // rdtsc
    0x48, 0xc1, 0xe2, 0x20, // shl rdx, 32
    0x48, 0x09, 0xd0, // or rax, rdx
    0x50, // push rax
    0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1 (write)
    0xbf, 0x01, 0x00, 0x00, 0x00, // mov edi, 1
    0x48, 0x89, 0xe6, // mov rsi, rsp
    0xba, 0x08, 0x00, 0x00, 0x00, // mov edx, 8
    0x0f, 0x05, // syscall
    0xb8, 0x22, 0x00, 0x00, 0x00, // 1: mov eax, 34 (pause)
    0x0f, 0x05, // syscall
    0xeb, 0xf7, // jmp 1b
];

/// A 64-bit kernel that consists of `code`.
pub fn kernel(code: &[u8]) -> Vec<u8> {
    elf(code, KERNEL_ADDRESS)
}

/// A static Linux program that consists of `code`.
pub fn program(code: &[u8]) -> Vec<u8> {
    elf(code, PROGRAM_ADDRESS)
}

/// An executable with one segment, headers included, entered at `code`.
fn elf(code: &[u8], address: u64) -> Vec<u8> {
    let len = CODE_OFFSET + code.len() as u64;
    let mut file = Vec::new();
    // e_ident: 64-bit, little-endian, version 1.
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(2u16.to_le_bytes()); // e_type: ET_EXEC
    file.extend(62u16.to_le_bytes()); // e_machine: EM_X86_64
    file.extend(1u32.to_le_bytes()); // e_version
    file.extend((address + CODE_OFFSET).to_le_bytes()); // e_entry
    file.extend(ELF_HEADER_LEN.to_le_bytes()); // e_phoff
    file.extend(0u64.to_le_bytes()); // e_shoff
    file.extend(0u32.to_le_bytes()); // e_flags
    for value in [ELF_HEADER_LEN, PROGRAM_HEADER_LEN, 1, 0, 0, 0] {
        // e_ehsize, e_phentsize, e_phnum, and no sections
        file.extend((value as u16).to_le_bytes());
    }
    file.extend(1u32.to_le_bytes()); // p_type: PT_LOAD
    file.extend(5u32.to_le_bytes()); // p_flags: read, execute
    // p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
    for value in [0, address, address, len, len, 0x1000] {
        file.extend(value.to_le_bytes());
    }
    debug_assert_eq!(file.len() as u64, CODE_OFFSET);
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn first_instruction_runs_as_a_program() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("first");
        std::fs::write(&path, program(FIRST_INSTRUCTION)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let mut child = Command::new(&path).stdout(Stdio::piped()).spawn().unwrap();
        let mut stamp = [0; 8];
        child.stdout.take().unwrap().read_exact(&mut stamp).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_ne!(u64::from_le_bytes(stamp), 0);
    }
}
