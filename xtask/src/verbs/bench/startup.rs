//! `cargo xtask bench startup`: counted in instructions, in the emulated host.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use bulkhead_benches::counted::{Budgets, Comparison, Figures, LARGE, Report, SMALL, Size};

use super::super::format::Format;
use super::counted::{self, PLATFORM};
use crate::machine::Job;
use crate::progress::Step;
use crate::setup::{self, Policy};
use crate::{dist, paths};

const TIMEOUT: Duration = Duration::from_mins(20);

/// Starts of the small and of the large size for a comparison with the budgets. Everybody
/// waits for it; but of the large size's starts, many are slow by chance (docs/bench.md).
const RUNS_TO_CHECK: [u32; 2] = [3, 10];

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// How many starts of each size to measure
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Compare with benches/budgets.toml, and fail if a figure exceeds its budget
    #[arg(long)]
    check: bool,

    /// Make what is measured the budgets
    #[arg(long, conflicts_with = "check")]
    update_budgets: bool,

    #[command(flatten)]
    policy: Policy,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    setup::ensure(PLATFORM.needs(), arguments.policy)?;
    dist::build()?;
    let report = measure([arguments.runs; 2])?;
    match arguments.format {
        Format::Text => print!("{report}"),
        Format::Json => println!("{}", serde_json::to_string(&report)?),
    }
    if arguments.update_budgets {
        let path = budgets_file();
        fs::write(&path, Budgets::text_for(&report))
            .with_context(|| format!("write {}", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    if arguments.check {
        let comparison = compare(&report)?;
        eprint!("{comparison}");
        return Ok(u8::from(comparison.is_failure()));
    }
    Ok(0)
}

/// Compares what was built with the budgets, prints that, and tells whether all
/// are kept.
pub(crate) fn check() -> Result<bool> {
    let comparison = compare(&measure(RUNS_TO_CHECK)?)?;
    println!("{comparison}");
    Ok(!comparison.is_failure())
}

fn compare(report: &Report) -> Result<Comparison> {
    let path = budgets_file();
    let context = || format!("read {}", path.display());
    let text = fs::read_to_string(&path).with_context(context)?;
    Ok(Budgets::parse(&text).with_context(context)?.compare(report))
}

fn budgets_file() -> PathBuf {
    paths::root().join("benches/budgets.toml")
}

/// Measures the installation in [`paths::dist`].
fn measure(runs: [u32; 2]) -> Result<Report> {
    counted::build()?;
    let step = Step::start(format!(
        "measure {} and {} starts, in two emulated hosts",
        runs[0], runs[1]
    ));
    // One beside the other: neither's time depends on this machine's.
    let (small, large) = thread::scope(|scope| {
        let large = scope.spawn(|| measure_size(LARGE, runs[1]));
        let small = measure_size(SMALL, runs[0]);
        (small, large.join().expect("measurements do not panic"))
    });
    let report = Report {
        small: small?,
        large: large?,
        runs: runs[0] as usize,
    };
    step.finish();
    Ok(report)
}

fn measure_size(size: Size, runs: u32) -> Result<Figures> {
    let command = [
        paths::release_binary("startup").into_os_string(),
        "--dist".into(),
        paths::dist().into_os_string(),
        format!("--vcpus={}", size.vcpus).into(),
        format!("--memory-mib={}", size.memory_mib).into(),
        format!("--runs={runs}").into(),
    ];
    let job = Job::new(&command)?
        .sharing(&[paths::dist()])?
        .with_cpus(size.vcpus)
        .with_timeout(TIMEOUT);
    counted::run(&job)
}
