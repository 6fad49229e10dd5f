//! Compiles the seccomp policies to the instructions that the kernel takes.

use std::path::Path;
use std::{env, error, fs};

/// The policies: a file in `seccomp/`, with one policy of the same name in it,
/// and the constant it becomes.
const POLICIES: [(&str, &str); 3] = [
    ("event-loop", "EVENT_LOOP"),
    ("vcpu", "VCPU"),
    ("worker", "WORKER"),
];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=seccomp");
    let mut code = String::new();
    for (name, constant) in POLICIES {
        let path = Path::new("seccomp").join(name).with_extension("json");
        let program = bulkhead_seccomp::compile(&path, name)?;
        code.push_str(&bulkhead_seccomp::constant(constant, &program));
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("seccomp.rs"), code)?;
    Ok(())
}
