//! `cargo xtask test`: everything that must be green.

mod end_to_end;
mod results;

use std::io;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::end_to_end::{EmulatedHost, EndToEnd, Group};
use self::results::{Counts, Results, Watched};
use super::{bench, conformance, fuzz, lint};
use crate::cargo::cargo;
use crate::progress::Step;
use crate::setup::{self, Need, Policy};
use crate::{dist, kvm, rootfs};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only the tests whose names contain this, and no lint
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,

    /// Also run software of Debian's packages in containers
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    policy: Policy,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8> {
    let obstacle = kvm::obstacle();
    let mut needs = vec![
        Need::Amd,
        Need::Build,
        Need::Deny,
        Need::Fuzz,
        Need::Intel,
        Need::OtherRuntimes,
        Need::Engines,
    ];
    let filter = arguments.filter.as_deref();
    if arguments.all {
        needs.push(Need::Rootfs);
    }
    if filter.is_none() {
        needs.extend(bench::PLATFORM.needs());
    }
    setup::ensure(&needs, arguments.policy)?;

    let mut results = Results::default();
    if filter.is_none() {
        lint(&mut results)?;
    }
    unit_tests(filter, &mut results)?;
    if filter.is_none() {
        fuzz_targets(&mut results)?;
    }
    dist::build()?;
    if let Some(obstacle) = &obstacle {
        eprintln!("no guests on this machine's own KVM: {obstacle}; using an emulated AMD host");
    }
    if filter.is_none() {
        startup_budgets(&mut results);
        conformance(obstacle, &mut results);
    }
    end_to_end_tests(obstacle, filter, &mut results)?;
    if arguments.all {
        software_tests(obstacle, filter, &mut results)?;
    }
    println!("{results}");
    if !arguments.all {
        println!(
            "left out: software of Debian's packages, which `cargo xtask test --all` runs, too"
        );
    }
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

/// The start's figures, against what was agreed on.
fn startup_budgets(results: &mut Results) {
    let started = Instant::now();
    let outcome = bench::check_startup();
    if let Err(error) = &outcome {
        eprintln!("error: {error:#}");
    }
    let is_kept = outcome.unwrap_or(false);
    results.add(
        "start-up budgets",
        Counts::of_check(is_kept),
        started.elapsed(),
    );
}

/// The cases of the OCI runtime specification, beside other runtimes.
fn conformance(obstacle: Option<&str>, results: &mut Results) {
    let started = Instant::now();
    let counts = match conformance::compare(obstacle, None) {
        Ok(report) => {
            println!("{report}");
            Counts {
                passed: report.passed() as u32,
                failed: report.failed().len() as u32,
                ignored: report.excluded().len() as u32,
                second_try: 0,
            }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            Counts::of_check(false)
        }
    };
    results.add("conformance", counts, started.elapsed());
}

/// Real guests: all tests on the machine's KVM or else the emulated AMD host, then
/// those for cgroup v1 in an emulated host that has it, and the core set in the emulated
/// Intel host, at the same time.
fn end_to_end_tests(
    obstacle: Option<&str>,
    filter: Option<&str>,
    results: &mut Results,
) -> Result<()> {
    let tests = EndToEnd::build("e2e")?;
    let usual = tests.names(filter, Group::Usual)?;
    let core_set = tests.names(filter, Group::CoreSet)?;
    let cgroup_v1 = tests.names(filter, Group::CgroupV1)?;
    let steps = thread::scope(|scope| {
        let intel = scope.spawn(|| {
            timed(
                "end-to-end core set, emulated Intel host",
                &core_set,
                || tests.run_emulated(EmulatedHost::Intel, &core_set),
            )
        });
        [
            on_best_host("end-to-end tests", &tests, &usual, obstacle),
            timed("cgroup v1, emulated AMD host", &cgroup_v1, || {
                tests.run_emulated(EmulatedHost::AmdCgroupV1, &cgroup_v1)
            }),
            intel.join().expect("tests do not panic here"),
        ]
    });
    for (name, counts, took) in steps.into_iter().flatten() {
        results.add(name, counts, took);
    }
    Ok(())
}

/// Databases, servers, compilers and the like in real guests.
fn software_tests(
    obstacle: Option<&str>,
    filter: Option<&str>,
    results: &mut Results,
) -> Result<()> {
    let tests = EndToEnd::build("software")?;
    let names = tests.names(filter, Group::Usual)?;
    if names.is_empty() {
        return Ok(());
    }
    let tests = tests.with_software(rootfs::software()?);
    if let Some((name, counts, took)) = on_best_host("software", &tests, &names, obstacle) {
        results.add(name, counts, took);
    }
    Ok(())
}

/// Runs tests on the machine's own KVM or, if there is an obstacle, in the emulated
/// AMD host.
fn on_best_host(
    step: &str,
    tests: &EndToEnd,
    names: &[String],
    obstacle: Option<&str>,
) -> Option<(String, Counts, Duration)> {
    match obstacle {
        None => timed(step, names, || tests.run_here(names)),
        Some(_) => timed(&format!("{step}, emulated AMD host"), names, || {
            tests.run_emulated(EmulatedHost::Amd, names)
        }),
    }
}

/// Runs a step unless it has no tests to run; an error of its is a failure.
fn timed(
    name: &str,
    tests: &[String],
    run: impl FnOnce() -> Result<Counts>,
) -> Option<(String, Counts, Duration)> {
    if tests.is_empty() {
        return None;
    }
    let step = Step::start(name);
    let counts = run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        Counts::of_check(false)
    });
    Some((name.into(), counts, step.finish()))
}
