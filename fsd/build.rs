//! Compiles the system call filter, so that starting the server costs no more
//! than installing it.

use std::path::Path;
use std::{env, error, fs};

use seccompiler::{BpfProgram, sock_filter};

const POLICY: &str = "seccomp/fsd.json";

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed={POLICY}");
    println!("cargo::rerun-if-changed=build.rs");
    let policy = bulkhead_seccomp::compile(Path::new(POLICY), "server")?;
    let program = [refuse_clone3(), policy].concat();
    let code = bulkhead_seccomp::constant("SERVER", &program);
    fs::write(Path::new(&env::var("OUT_DIR")?).join("seccomp.rs"), code)?;
    Ok(())
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
