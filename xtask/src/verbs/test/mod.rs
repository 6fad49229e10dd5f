//! `cargo xtask test`: everything that must be green.

mod end_to_end;
mod results;

use std::io;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::end_to_end::EndToEnd;
use self::results::{Counts, Results, Watched};
use super::{fuzz, lint};
use crate::cargo::cargo;
use crate::machine::Platform;
use crate::progress::Step;
use crate::setup::{self, Need, Policy};
use crate::{dist, kvm};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only the tests whose names contain this, and no lint
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,

    #[command(flatten)]
    policy: Policy,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let obstacle = kvm::obstacle();
    let mut needs = vec![Need::Build, Need::Deny, Need::Fuzz, Need::Intel];
    if obstacle.is_some() {
        needs.push(Need::Amd);
    }
    setup::ensure(&needs, arguments.policy)?;

    let filter = arguments.filter.as_deref();
    let mut results = Results::default();
    if filter.is_none() {
        lint(&mut results)?;
    }
    unit_tests(filter, &mut results)?;
    if filter.is_none() {
        fuzz_targets(&mut results)?;
    }
    end_to_end_tests(obstacle, filter, &mut results)?;
    println!("{results}");
    Ok(u8::from(results.failed() > 0))
}

fn lint(results: &mut Results) -> Result<()> {
    for check in lint::checks()? {
        let name = check.name;
        let started = Instant::now();
        let outcome = check.run();
        if let Err(error) = &outcome {
            eprintln!("error: {error:#}");
        }
        results.add(name, Counts::of_check(outcome.is_ok()), started.elapsed());
    }
    Ok(())
}

/// Tests that need no KVM and no root, of every crate.
fn unit_tests(filter: Option<&str>, results: &mut Results) -> Result<()> {
    let step = Step::start("unit tests");
    let (mut watched, counts) = Watched::new("");
    let mut child = cargo()
        .args(["test", "--quiet", "--no-fail-fast", "--workspace"])
        .args(["--exclude", "bulkhead-tests"])
        .args(filter)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo")?;
    let mut output = child.stdout.take().context("standard output is a pipe")?;
    io::copy(&mut output, &mut watched).context("read the tests' output")?;
    let success = child.wait().context("wait for cargo")?.success();
    results.add("unit tests", counts.get().given(success), step.finish());
    Ok(())
}

/// Each fuzz target for a moment, so that none of them rots.
fn fuzz_targets(results: &mut Results) -> Result<()> {
    fuzz::build(None)?;
    let step = Step::start("fuzz targets");
    let mut counts = Counts::default();
    for target in fuzz::Target::all()? {
        let outcome = target.smoke();
        if let Err(error) = &outcome {
            eprintln!("error: {error:#}");
        }
        counts += Counts::of_check(outcome.is_ok());
    }
    results.add("fuzz targets", counts, step.finish());
    Ok(())
}

/// Real guests: all tests on the machine's KVM or else the emulated AMD host, and
/// the core set in the emulated Intel host, at the same time.
fn end_to_end_tests(
    obstacle: Option<&str>,
    filter: Option<&str>,
    results: &mut Results,
) -> Result<()> {
    dist::build()?;
    let tests = EndToEnd::build()?;
    let all = tests.names(filter, false)?;
    let core_set = tests.names(filter, true)?;
    if let Some(obstacle) = obstacle {
        eprintln!("no guests on this machine's own KVM: {obstacle}; using an emulated AMD host");
    }
    let (first, second) = thread::scope(|scope| {
        let second = scope.spawn(|| {
            timed(
                "end-to-end core set, emulated Intel host",
                &core_set,
                || tests.run_emulated(Platform::Intel, &core_set, "intel | "),
            )
        });
        let first = match obstacle {
            None => timed("end-to-end tests", &all, || tests.run_here(&all)),
            Some(_) => timed("end-to-end tests, emulated AMD host", &all, || {
                tests.run_emulated(Platform::Amd { icount: false }, &all, "amd   | ")
            }),
        };
        (first, second.join().expect("tests do not panic here"))
    });
    for (name, counts, took) in [first, second].into_iter().flatten() {
        results.add(name, counts, took);
    }
    Ok(())
}

/// Runs a step unless it has no tests to run; an error of its is a failure.
fn timed(
    name: &'static str,
    tests: &[String],
    run: impl FnOnce() -> Result<Counts>,
) -> Option<(&'static str, Counts, Duration)> {
    if tests.is_empty() {
        return None;
    }
    let step = Step::start(name);
    let counts = run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        Counts::of_check(false)
    });
    Some((name, counts, step.finish()))
}
