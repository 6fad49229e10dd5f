//! Compiles the seccomp policies to the instructions that the kernel takes.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::{env, error};

use seccompiler::{BpfProgram, TargetArch, compile_from_json};

/// The policies: a file in `seccomp/`, with one policy of the same name in it,
/// and the constant it becomes.
const POLICIES: [(&str, &str); 2] = [("event-loop", "EVENT_LOOP"), ("vcpu", "VCPU")];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=seccomp");
    let mut code = String::new();
    for (name, constant) in POLICIES {
        let path = Path::new("seccomp").join(name).with_extension("json");
        let programs = compile_from_json(File::open(&path)?, TargetArch::x86_64)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let program = programs
            .get(name)
            .ok_or_else(|| format!("no policy {name}"))?;
        write_constant(&mut code, constant, program)?;
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("seccomp.rs"), code)?;
    Ok(())
}

fn write_constant(
    code: &mut String,
    name: &str,
    program: &BpfProgram,
) -> Result<(), std::fmt::Error> {
    writeln!(code, "pub(super) const {name}: &[sock_filter] = &[")?;
    for instruction in program {
        let seccompiler::sock_filter {
            code: op,
            jt,
            jf,
            k,
        } = instruction;
        writeln!(
            code,
            "    sock_filter {{ code: {op}, jt: {jt}, jf: {jf}, k: {k} }},"
        )?;
    }
    writeln!(code, "];")
}
