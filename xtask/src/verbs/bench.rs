//! `cargo xtask bench`: figures that are the same on every machine.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};

use crate::cargo::{self, cargo};
use crate::machine::{self, Job, Platform};
use crate::progress::Step;
use crate::setup::{self, Policy};
use crate::{dist, paths};

/// Where time is counted in instructions.
const PLATFORM: Platform = Platform::Amd { icount: true };

const TIMEOUT: Duration = Duration::from_mins(20);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    figure: Figure,
}

#[derive(Subcommand)]
enum Figure {
    /// From the exec of `bulkhead run` to the container's first instruction, by
    /// phase, and the memory of an idle container
    Startup(Startup),
}

#[derive(clap::Args)]
struct Startup {
    /// How many starts to measure
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: u32,

    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    policy: Policy,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Tables for people
    Text,
    /// One JSON object
    Json,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    match &arguments.figure {
        Figure::Startup(startup) => startup.run(),
    }
}

impl Startup {
    fn run(&self) -> Result<u8> {
        setup::ensure(PLATFORM.needs(), self.policy)?;
        dist::build()?;
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

        let step = Step::start(format!("measure {} starts, in an emulated host", self.runs));
        let command = [
            paths::release_binary("startup").into_os_string(),
            "--dist".into(),
            paths::dist().into_os_string(),
            "--runs".into(),
            self.runs.to_string().into(),
            "--format".into(),
            self.format.name(),
        ];
        let job = Job::new(&command)?
            .sharing(&[paths::dist()])?
            .with_timeout(TIMEOUT);
        let code = machine::run(
            PLATFORM,
            &job,
            Box::new(io::stdout()),
            Box::new(io::stderr()),
        )?;
        step.finish();
        Ok(code)
    }
}

impl Format {
    fn name(self) -> OsString {
        match self {
            Self::Text => "text".into(),
            Self::Json => "json".into(),
        }
    }
}
