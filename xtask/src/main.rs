//! The project's own tool: builds, installs, tests and measures.
//!
//! One module per verb in [`verbs`]; what they share lies beside it.
#![forbid(unsafe_code)]

mod cargo;
mod cpio;
mod dist;
mod hex;
mod kernel;
mod kvm;
mod machine;
mod paths;
mod progress;
mod rootfs;
mod setup;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, version)]
struct Arguments {
    #[command(subcommand)]
    verb: verbs::Verb,
}

fn main() -> ExitCode {
    match Arguments::parse().verb.run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
