//! Programs that count in the emulated host, where an instruction is a nanosecond.

use std::io;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use crate::cargo::{self, cargo};
use crate::machine::{self, Collected, Job, Platform};
use crate::progress::Step;

/// Where time is counted in instructions.
pub(crate) const PLATFORM: Platform = Platform::Amd { icount: true };

/// Builds the programs.
pub(super) fn build() -> Result<()> {
    let step = Step::start("build the benchmark");
    let build = [
        "build",
        "--quiet",
        "--release",
        "--package",
        "bulkhead-benches",
    ];
    cargo::run(cargo().args(build))?;
    step.finish();
    Ok(())
}

/// Runs one of them, which prints a JSON object.
pub(super) fn run<T: DeserializeOwned>(job: &Job) -> Result<T> {
    let output = Collected::default();
    let code = machine::run(
        PLATFORM,
        job,
        Box::new(output.clone()),
        Box::new(io::stderr()),
    )?;
    ensure!(code == 0, "the benchmark ended with code {code}");
    serde_json::from_slice(&output.bytes()).context("read what the benchmark printed")
}
