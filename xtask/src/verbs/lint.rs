//! `cargo xtask lint`: everything that looks at the code without running it.

use std::process::Command;

use anyhow::{Result, bail};

use super::fuzz;
use crate::cargo::{self, cargo};
use crate::progress::Step;
use crate::setup::{self, CARGO_DENY, Need, Policy};

/// A workspace of its own.
const FUZZ_MANIFEST: &str = "fuzz/Cargo.toml";

/// Where cargo-deny finds out about known vulnerabilities.
const ADVISORIES: &str = "https://github.com/rustsec/advisory-db";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    policy: Policy,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    setup::ensure(&[Need::Build, Need::Deny, Need::Fuzz], arguments.policy)?;
    let mut failed = Vec::new();
    for check in checks()? {
        let name = check.name;
        if let Err(error) = check.run() {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("these checks failed: {}", failed.join(", "));
    }
    Ok(0)
}

/// One tool's look at the code.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    command: Command,
}

impl Check {
    pub(crate) fn run(mut self) -> Result<()> {
        let step = Step::start(self.name);
        cargo::run(&mut self.command)?;
        step.finish();
        Ok(())
    }
}

/// All checks, the quickest first.
pub(crate) fn checks() -> Result<Vec<Check>> {
    let mut checks = vec![
        Check {
            name: "rustfmt",
            command: cargo_with(&["fmt", "--all", "--check"]),
        },
        Check {
            name: "rustfmt, fuzz targets",
            command: cargo_with(&["fmt", "--check", "--manifest-path", FUZZ_MANIFEST]),
        },
        Check {
            name: "cargo deny",
            command: deny("Cargo.toml", &["bans", "licenses", "sources"])?,
        },
        Check {
            name: "cargo deny, fuzz targets",
            command: deny(FUZZ_MANIFEST, &["bans", "licenses", "sources"])?,
        },
    ];
    if can_reach(ADVISORIES) {
        checks.push(Check {
            name: "cargo deny, advisories",
            command: deny("Cargo.toml", &["advisories"])?,
        });
        checks.push(Check {
            name: "cargo deny, advisories, fuzz targets",
            command: deny(FUZZ_MANIFEST, &["advisories"])?,
        });
    } else {
        eprintln!("skipping known vulnerabilities: {ADVISORIES} cannot be reached");
    }
    checks.push(Check {
        name: "clippy",
        command: cargo_with(&[
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]),
    });
    checks.push(Check {
        name: "clippy, fuzz targets",
        command: clippy_of_fuzz_targets(),
    });
    let mut rustdoc = cargo_with(&["doc", "--quiet", "--workspace", "--no-deps"]);
    rustdoc.env("RUSTDOCFLAGS", "--deny warnings");
    checks.push(Check {
        name: "rustdoc",
        command: rustdoc,
    });
    Ok(checks)
}

/// With what is there for the targets alone in the crates that they test.
fn clippy_of_fuzz_targets() -> Command {
    let mut clippy = cargo_with(&["clippy", "--quiet", "--manifest-path", FUZZ_MANIFEST]);
    clippy
        .env("RUSTFLAGS", "--cfg fuzzing")
        .arg("--target-dir")
        .arg(fuzz::target_folder())
        .args(["--", "--deny", "warnings"]);
    clippy
}

fn cargo_with(arguments: &[&str]) -> Command {
    let mut command = cargo();
    command.args(arguments);
    command
}

/// By the same rules for all; an exception may be for one workspace alone.
fn deny(manifest: &str, what: &[&str]) -> Result<Command> {
    let mut command = Command::new(CARGO_DENY.path()?);
    command
        .current_dir(crate::paths::root())
        .args([
            "--log-level",
            "warn",
            "--workspace",
            "--config",
            "deny.toml",
            "--manifest-path",
            manifest,
            "check",
            "--hide-inclusion-graph",
            "--allow",
            "unmatched-skip",
            "--allow",
            "license-exception-not-encountered",
        ])
        .args(what);
    Ok(command)
}

fn can_reach(repository: &str) -> bool {
    let mut command = Command::new("timeout");
    command
        .args(["10", "git", "ls-remote", "--exit-code", repository, "HEAD"])
        .env("GIT_TERMINAL_PROMPT", "0");
    cargo::run_silently(&mut command).is_ok()
}
