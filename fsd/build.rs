//! Compiles the system call filters, so that starting the server costs no more
//! than installing them.

use std::fs::{self, File};
use std::path::Path;

use seccompiler::BpfProgram;

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
    let out = std::env::var("OUT_DIR").expect("set by Cargo");
    for (name, program) in programs {
        let path = Path::new(&out).join(name).with_extension("bpf");
        fs::write(path, encode(&program)).expect("the output directory is writable");
    }
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
