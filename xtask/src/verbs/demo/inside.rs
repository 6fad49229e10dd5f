//! The demonstration itself, on the machine where the guest runs.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use super::bundle::EXIT_CODE;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The binary under demonstration
    pub(super) bulkhead: PathBuf,
    /// The bundle to run
    pub(super) bundle: PathBuf,
}

impl Arguments {
    /// The command that does the same elsewhere.
    pub(super) fn command_line(&self) -> Result<Vec<OsString>> {
        let this = env::current_exe().context("find our own program")?;
        Ok(vec![
            this.into(),
            "demo-inside".into(),
            self.bulkhead.clone().into(),
            self.bundle.clone().into(),
        ])
    }
}

/// Runs the bundle and shows what is of interest about it.
pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("ask for our kernel")?;
    println!("host:       kernel {}", release.trim_end());
    let folder = tempfile::tempdir().context("make a folder for the timeline")?;
    let timeline = folder.path().join("timeline.json");
    let mut command = Command::new(&arguments.bulkhead);
    command
        .args(["run", "--bundle"])
        .arg(&arguments.bundle)
        .arg("--timeline")
        .arg(&timeline)
        .arg("demo")
        .stdin(Stdio::null());
    println!(
        "$ bulkhead run --bundle {} demo",
        arguments.bundle.display()
    );
    let status = command.status().context("start bulkhead")?;
    println!(
        "exit code:  {}",
        status.code().map_or("none".into(), |code| code.to_string())
    );
    if status.code() != Some(EXIT_CODE.into()) {
        eprintln!("error: the container's exit code is {EXIT_CODE}");
        return Ok(1);
    }
    show_timeline(&timeline)?;
    Ok(0)
}

fn show_timeline(file: &Path) -> Result<()> {
    let text = fs::read(file).context("read the timeline")?;
    let timeline: Value = serde_json::from_slice(&text).context("the timeline is no JSON")?;
    let phases = timeline["phases"]
        .as_array()
        .context("the timeline has no phases")?;
    println!("start, in milliseconds of the host:");
    let mut before = 0.0;
    for phase in phases {
        let name = phase["name"].as_str().context("a phase has no name")?;
        let ms = phase["ms"].as_f64().context("a phase has no time")?;
        println!("  {name:<20}{ms:>10.1}{:>+10.1}", ms - before);
        before = ms;
    }
    Ok(())
}
