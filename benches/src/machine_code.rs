//! Programs of a few instructions, as ELF files.
//!
//! Hand-made, because each must do exactly one thing, from its first
//! instruction on: no start-up code, no stack, no libc.

const ELF_HEADER_LEN: u64 = 64;
const PROGRAM_HEADER_LEN: u64 = 56;
const CODE_OFFSET: u64 = ELF_HEADER_LEN + PROGRAM_HEADER_LEN;

/// The usual place of a static program.
const PROGRAM_ADDRESS: u64 = 0x40_0000;

/// A program: as its first instruction reads the time stamp counter, writes its
/// eight bytes (little-endian) to standard output and waits for `SIGTERM`. Then
/// it does the same once more, and exits.
pub const WAIT: &[u8] = &[
    0x0f, 0x31, // rdtsc
    0x48, 0xc1, 0xe2, 0x20, // shl rdx, 32
    0x48, 0x09, 0xd0, // or rax, rdx
    0x50, // push rax
    0x68, 0x00, 0x40, 0x00, 0x00, // push 1 << (SIGTERM - 1)
    // Blocked before anybody knows that it runs: it is lost on a first process
    // that neither blocks nor handles it.
    0xb8, 0x0e, 0x00, 0x00, 0x00, // mov eax, 14 (rt_sigprocmask)
    0x31, 0xff, // xor edi, edi (SIG_BLOCK)
    0x48, 0x89, 0xe6, // mov rsi, rsp
    0x31, 0xd2, // xor edx, edx
    0x41, 0xba, 0x08, 0x00, 0x00, 0x00, // mov r10d, 8
    0x0f, 0x05, // syscall
    0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1 (write)
    0xbf, 0x01, 0x00, 0x00, 0x00, // mov edi, 1
    0x48, 0x8d, 0x74, 0x24, 0x08, // lea rsi, [rsp + 8]
    0xba, 0x08, 0x00, 0x00, 0x00, // mov edx, 8
    0x0f, 0x05, // syscall
    0xb8, 0x80, 0x00, 0x00, 0x00, // 1: mov eax, 128 (rt_sigtimedwait)
    0x48, 0x89, 0xe7, // mov rdi, rsp
    0x31, 0xf6, // xor esi, esi
    0x31, 0xd2, // xor edx, edx
    0x41, 0xba, 0x08, 0x00, 0x00, 0x00, // mov r10d, 8
    0x0f, 0x05, // syscall
    0x83, 0xf8, 0x0f, // cmp eax, SIGTERM
    0x75, 0xe7, // jne 1b
    0x0f, 0x31, // rdtsc
    0x48, 0xc1, 0xe2, 0x20, // shl rdx, 32
    0x48, 0x09, 0xd0, // or rax, rdx
    0x50, // push rax
    0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1 (write)
    0xbf, 0x01, 0x00, 0x00, 0x00, // mov edi, 1
    0x48, 0x89, 0xe6, // mov rsi, rsp
    0xba, 0x08, 0x00, 0x00, 0x00, // mov edx, 8
    0x0f, 0x05, // syscall
    0xb8, 0xe7, 0x00, 0x00, 0x00, // mov eax, 231 (exit_group)
    0x31, 0xff, // xor edi, edi
    0x0f, 0x05, // syscall
];

/// A program: as its first instruction reads the time stamp counter, writes its
/// eight bytes (little-endian) to standard output, and exits.
pub const EXIT: &[u8] = &[
    0x0f, 0x31, // rdtsc
    0x48, 0xc1, 0xe2, 0x20, // shl rdx, 32
    0x48, 0x09, 0xd0, // or rax, rdx
    0x50, // push rax
    0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1 (write)
    0xbf, 0x01, 0x00, 0x00, 0x00, // mov edi, 1
    0x48, 0x89, 0xe6, // mov rsi, rsp
    0xba, 0x08, 0x00, 0x00, 0x00, // mov edx, 8
    0x0f, 0x05, // syscall
    0xb8, 0xe7, 0x00, 0x00, 0x00, // mov eax, 231 (exit_group)
    0x31, 0xff, // xor edi, edi
    0x0f, 0x05, // syscall
];

/// What [`INIT`] writes: no text that a kernel or a VMM might print has it.
pub const INIT_MARK: u8 = 0x07;

/// The first process of a guest with nothing else: writes [`INIT_MARK`] and a
/// line's end to the first serial port, then switches the machine off in the ways
/// that VMMs know, one after the other.
pub const INIT: &[u8] = &[
    0xb8, 0xac, 0x00, 0x00, 0x00, // mov eax, 172 (iopl)
    0xbf, 0x03, 0x00, 0x00, 0x00, // mov edi, 3
    0x0f, 0x05, // syscall
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, 0x07, // mov al, INIT_MARK
    0xee, // out dx, al
    0xb0, 0x0a, // mov al, '\n'
    0xee, // out dx, al
    // Bulkhead's VMM: PM1 control, SLP_EN.
    0x66, 0xba, 0x04, 0x06, // mov dx, 0x604
    0x66, 0xb8, 0x00, 0x20, // mov ax, 0x2000
    0x66, 0xef, // out dx, ax
    // QEMU: isa-debug-exit.
    0x66, 0xba, 0xf4, 0x00, // mov dx, 0xf4
    0xb0, 0x00, // mov al, 0
    0xee, // out dx, al
    // Cloud Hypervisor: sleep control, S5.
    0x66, 0xba, 0x00, 0x06, // mov dx, 0x600
    0xb0, 0x34, // mov al, 0x34
    0xee, // out dx, al
    // Firecracker: the keyboard controller's reset.
    0xb0, 0xfe, // mov al, 0xfe
    0xe6, 0x64, // out 0x64, al
    0xb8, 0x22, 0x00, 0x00, 0x00, // 1: mov eax, 34 (pause)
    0x0f, 0x05, // syscall
    0xeb, 0xf7, // jmp 1b
];

/// A static Linux program that consists of `code`.
pub fn program(code: &[u8]) -> Vec<u8> {
    executable(code, PROGRAM_ADDRESS)
}

/// An executable with one segment, headers included, which lies at `address`
/// and is entered at `code`.
pub fn executable(code: &[u8], address: u64) -> Vec<u8> {
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
    use std::fs;
    use std::io::{ErrorKind, Read};
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Child, Command, Stdio};
    use std::thread;

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    fn start(directory: &tempfile::TempDir, code: &[u8]) -> Child {
        let path = directory.path().join("program");
        fs::write(&path, program(code)).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = Command::new(&path);
        command.stdout(Stdio::piped());
        loop {
            match command.spawn() {
                // A child that another test is just starting still holds the file.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::yield_now(),
                outcome => return outcome.unwrap(),
            }
        }
    }

    fn read_stamp(child: &mut Child) -> u64 {
        let mut stamp = [0; 8];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut stamp)
            .unwrap();
        u64::from_le_bytes(stamp)
    }

    #[test]
    fn waiting_program_stamps_its_start_and_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = start(&directory, WAIT);
        let first = read_stamp(&mut child);
        assert_eq!(child.try_wait().unwrap(), None);
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let last = read_stamp(&mut child);
        assert!(0 < first && first < last, "{first} {last}");
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn exiting_program_stamps_its_start() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = start(&directory, EXIT);
        assert_ne!(read_stamp(&mut child), 0);
        assert!(child.wait().unwrap().success());
    }
}
