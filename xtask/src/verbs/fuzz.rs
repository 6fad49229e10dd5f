//! `cargo xtask fuzz`: lets libFuzzer look for inputs that the parsers of untrusted
//! bytes do not bear.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;
use crate::paths;
use crate::progress::Step;
use crate::setup::{self, CARGO_FUZZ, Need, Policy};

/// The targets, a file each.
const TARGETS: &str = "fuzz/fuzz_targets";

/// Inputs to start from, a folder for each target that does not get far without.
const SEEDS: &str = "fuzz/seeds";

/// Where the targets make their files: they make thousands.
const SCRATCH: &str = "/dev/shm";

/// Longest input in bytes.
const MAX_LEN: usize = 1024;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The target to run, instead of all
    target: Option<String>,

    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u32,

    #[command(flatten)]
    policy: Policy,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let targets = match &arguments.target {
        Some(name) => vec![Target::named(name)?],
        None => Target::all()?,
    };
    setup::ensure(&[Need::Fuzz], arguments.policy)?;
    build(arguments.target.as_deref())?;
    let mut failed = 0;
    for target in &targets {
        let step = Step::start(format!("fuzz {target}"));
        match target.fuzz(arguments.seconds) {
            Ok(figures) => {
                step.finish();
                println!("{target}: {figures}");
            }
            Err(error) => {
                drop(step);
                eprintln!("error: {error:#}");
                failed += 1;
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} targets failed", targets.len());
    Ok(0)
}

/// Builds one target, or all.
///
/// Without a sanitizer, the stable compiler will do. What a sanitizer would
/// find is in `unsafe` code; panics, overflows and hangs need none.
pub(crate) fn build(target: Option<&str>) -> Result<()> {
    let step = Step::start("build fuzz targets");
    let mut command = Command::new(CARGO_FUZZ.path()?);
    command
        .current_dir(paths::root())
        .env("CARGO_TERM_QUIET", "true")
        .args(["build", "--sanitizer", "none", "--fuzz-dir", "fuzz"])
        .args(["--target", paths::TARGET, "--target-dir"])
        .arg(target_folder())
        .args(target);
    cargo::run(&mut command)?;
    step.finish();
    Ok(())
}

/// Cargo's target folder for the fuzz targets: their flags are others.
pub(crate) fn target_folder() -> PathBuf {
    paths::target().join("fuzz")
}

/// A fuzz target.
pub(crate) struct Target(String);

impl Target {
    /// All there are, by name.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let mut names = Vec::new();
        let folder = paths::root().join(TARGETS);
        for entry in fs::read_dir(folder).with_context(|| format!("read {TARGETS}"))? {
            let path = entry?.path();
            names.extend(path.file_stem().and_then(OsStr::to_str).map(str::to_owned));
        }
        names.sort();
        Ok(names.into_iter().map(Self).collect())
    }

    fn named(name: &str) -> Result<Self> {
        let all = Self::all()?;
        let names = all.iter().map(|target| target.0.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        let found = all.into_iter().find(|target| target.0 == name);
        found.with_context(|| format!("no fuzz target {name}; there are {names}"))
    }

    /// Goes on from the corpus of earlier runs.
    fn fuzz(&self, seconds: u32) -> Result<Figures> {
        let corpus = self.folder()?.join("corpus");
        self.execute(&corpus, &[format!("-max_total_time={seconds}")])
    }

    /// Tries a few inputs, the same ones each time.
    pub(crate) fn smoke(&self) -> Result<()> {
        let corpus = tempfile::tempdir_in(SCRATCH).context("make a folder in memory")?;
        let limits = ["-seed=1", "-runs=2000", "-max_total_time=10"].map(str::to_owned);
        self.execute(corpus.path(), &limits).map(drop)
    }

    fn execute(&self, corpus: &Path, limits: &[String]) -> Result<Figures> {
        // It goes with what a target leaves there that crashes.
        let scratch = tempfile::tempdir_in(SCRATCH).context("make a folder in memory")?;
        let noise = scratch.path().join("noise");
        write_noise(&noise).context("write inputs to start from")?;
        let findings = self.folder()?;
        fs::create_dir_all(&findings)
            .and_then(|()| fs::create_dir_all(corpus))
            .with_context(|| format!("create {}", findings.display()))?;
        let mut command = self.command();
        command
            .env("TMPDIR", scratch.path())
            .args(limits)
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .args([corpus, &noise]);
        let seeds = paths::root().join(SEEDS).join(&self.0);
        if seeds.exists() {
            command.arg(seeds);
        }
        let output = command
            .output()
            .with_context(|| format!("start fuzz target {self}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Ok(Figures::parse(&said));
        }
        eprintln!("{}", said.trim_end());
        let input = said
            .lines()
            .find_map(|line| line.split_once("Test unit written to "));
        match input {
            Some((_, input)) => bail!(
                "fuzz target {self} does not bear {input}; try it again with:\n  {} {input}",
                command.get_program().display()
            ),
            None => bail!("fuzz target {self} failed: {}", output.status),
        }
    }

    fn command(&self) -> Command {
        let folder = target_folder().join(paths::TARGET).join("release");
        let mut command = Command::new(folder.join(&self.0));
        command
            .args(["-verbosity=0", "-print_final_stats=1", "-timeout=10"])
            .arg(format!("-max_len={MAX_LEN}"))
            // Short inputs first would be a waste of short runs.
            .arg("-len_control=0");
        command
    }

    /// What earlier runs have found.
    fn folder(&self) -> Result<PathBuf> {
        Ok(paths::cache()?.join("fuzz").join(&self.0))
    }
}

/// Writes inputs of random bytes, the same ones each time. By itself libFuzzer
/// takes long to come to the long inputs that make a script of many steps.
fn write_noise(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    let mut state = 1_u64;
    let mut random = move || {
        // Knuth's linear congruential generator.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    for number in 0..64 {
        let bytes: Vec<u8> = (0..MAX_LEN).map(|_| random()).collect();
        fs::write(folder.join(number.to_string()), bytes)?;
    }
    Ok(())
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a run amounts to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    inputs: u64,
    per_second: u64,
}

impl Figures {
    /// Finds them in what libFuzzer says at its end.
    fn parse(said: &str) -> Self {
        let number = |name| {
            said.lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
                .unwrap_or_default()
        };
        Self {
            inputs: number("stat::number_of_executed_units:"),
            per_second: number("stat::average_exec_per_sec:"),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inputs, per_second } = self;
        write!(f, "{inputs} inputs, {per_second} a second")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_the_statistics() {
        let said = "INFO: Seed: 1\nstat::number_of_executed_units: 2000\n\
                    stat::average_exec_per_sec:     1000\nstat::peak_rss_mb: 28\n";
        let expected = Figures {
            inputs: 2000,
            per_second: 1000,
        };
        assert_eq!(Figures::parse(said), expected);
    }

    #[test]
    fn each_target_is_declared() {
        let manifest = fs::read_to_string(paths::root().join("fuzz/Cargo.toml")).unwrap();
        let targets = Target::all().unwrap();
        assert!(!targets.is_empty());
        for target in targets {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")));
        }
    }
}
