//! Compiles the system call filter, so that starting the server costs no more
//! than installing them.

use std::fs::{self, File};
use std::path::Path;

use seccompiler::{BpfProgram, sock_filter};

const POLICY: &str = "seccomp/fsd.json";

fn main() {
    println!("cargo::rerun-if-changed={POLICY}");
    println!("cargo::rerun-if-changed=build.rs");
    let policy = File::open(POLICY).expect("the policy is part of the sources");
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").expect("set by Cargo");
    let arch = arch
        .as_str()
        .try_into()
        .expect("seccompiler knows the architecture");
    let programs = seccompiler::compile_from_json(policy, arch).expect("the policy is valid");
    let program = [refuse_clone3(), programs["server"].clone()].concat();
    let out = std::env::var("OUT_DIR").expect("set by Cargo");
    fs::write(Path::new(&out).join("server.bpf"), encode(&program))
        .expect("the output directory is writable");
}

/// Answers `clone3` as an old kernel would, and goes on with what follows. A
/// filter cannot see that call's arguments, and so cannot tell a thread from
/// anything else; the C library then uses `clone`. seccompiler's policies have
/// one answer for all that does not match.
fn refuse_clone3() -> BpfProgram {
    const CLONE3: u32 = 435;
    const ENOSYS: u32 = 38;
    const SECCOMP_RET_ERRNO: u32 = 0x0005_0000;
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        // BPF_LD | BPF_W | BPF_ABS: the call's number, `seccomp_data.nr`
        instruction(0x20, 0, 0, 0),
        // BPF_JMP | BPF_JEQ | BPF_K
        instruction(0x15, 0, 1, CLONE3),
        // BPF_RET | BPF_K
        instruction(0x06, 0, 0, SECCOMP_RET_ERRNO | ENOSYS),
    ]
}

/// Instructions as the kernel lays them out: `struct sock_filter`.
fn encode(program: &BpfProgram) -> Vec<u8> {
    let mut bytes = Vec::new();
    for instruction in program {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    bytes
}
