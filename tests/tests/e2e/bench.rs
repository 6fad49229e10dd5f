//! `bulkhead bench`: what it reports, and what it does when something is wrong.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bulkhead_tests::{Outcome, Running, World, wait_until};
use rustix::process::Signal;
use serde_json::Value;

/// A runtime that shares the host's kernel, from Debian.
const CRUN: &str = "crun=/usr/bin/crun";

/// Where a bench keeps its files.
fn scratch(world: &World) -> PathBuf {
    let path = world.path().join("scratch");
    fs::create_dir_all(&path).unwrap();
    path
}

/// As short a bench as there can be.
fn bench(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.bulkhead_alone(["bench", "startup", "--no-installed-vmms"]);
    command.args(["--runs", "1", "--concurrency", "1"]);
    command.args(arguments).env("TMPDIR", scratch(world));
    command
}

/// Runs it on a host without KVM, after what else a shell command does to that.
fn run_without_kvm(world: &World, arguments: &[&str], preparation: &str) -> Outcome {
    let command = bench(world, arguments);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    world.run_in_mount_namespace(&format!(
        "mount --bind /dev/null /dev/kvm && {preparation} && export TMPDIR={} && exec {}",
        scratch(world).display(),
        words.join(" ")
    ))
}

fn assert_nothing_in_scratch(world: &World) {
    let left: Vec<_> = fs::read_dir(scratch(world)).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn report_compares_with_another_runtime() {
    let world = World::new();
    let arguments = ["--format", "json", "--runtime", CRUN];
    let outcome = Outcome::of(&mut bench(&world, &arguments)).expect_code(0);
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let names: Vec<_> = report["subjects"].as_array().unwrap().iter().collect();
    let names: Vec<_> = names.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["bulkhead", "crun", "bulkhead-vmm"]);
    for figure in ["first_instruction", "run", "exec_first_output", "teardown"] {
        for n in [0, 1] {
            let summary = &report["subjects"][n]["latency"][figure];
            assert!(
                summary["median_ms"].as_f64() > Some(0.0),
                "{figure}: {summary}"
            );
        }
    }
    let bulkhead = &report["subjects"][0];
    assert!(bulkhead["idle_pod"]["guest_pss_kib"].as_u64() > Some(0));
    let phases = bulkhead["phases"].as_array().unwrap();
    assert!(
        phases.iter().any(|phase| phase["on"] == "guest"),
        "{phases:?}"
    );
    assert_nothing_in_scratch(&world);
}

#[test]
fn interrupt_ends_all_and_reports_what_there_is() {
    let world = World::new();
    let mut command = bench(&world, &[]);
    let running = Running::start(command.stdin(Stdio::null()));
    wait_until("a container starts", || !world.processes("fsd").is_empty());
    running.signal(Signal::TERM);
    let outcome = running.wait().expect_code(128 + 15);
    assert!(
        outcome.stdout.contains("interrupted by signal 15"),
        "{outcome:?}"
    );
    world.assert_nothing_left();
    assert_nothing_in_scratch(&world);
}

#[test]
fn without_kvm_others_are_measured_and_nobody_if_there_is_none() {
    let world = World::new();
    let outcome = run_without_kvm(&world, &["--runtime", CRUN], "true");
    let outcome = outcome.expect_code(1).expect_message("KVM");
    assert!(outcome.stdout.contains("  crun "), "{outcome:?}");
    assert!(outcome.stdout.contains("bulkhead failed"), "{outcome:?}");
    let outcome = run_without_kvm(&world, &[], "true");
    assert_eq!(outcome.expect_code(1).expect_message("KVM").stdout, "");
    assert_nothing_in_scratch(&world);
}

#[test]
fn runtimes_that_are_none() {
    let world = World::new();
    let outcome = run_without_kvm(&world, &["--runtime", "gone=/no/such/runtime"], "true");
    let _ = outcome.expect_code(1).expect_message("/no/such/runtime");
    let arguments = ["--runtime", "none=/bin/true", "--runtime", CRUN];
    let outcome = run_without_kvm(&world, &arguments, "true").expect_code(1);
    assert!(
        outcome.stdout.contains("none failed (warm-up)"),
        "{outcome:?}"
    );
    assert!(
        outcome.stdout.contains("  crun "),
        "the others are measured"
    );
    assert_nothing_in_scratch(&world);
}

#[test]
fn full_disk_does_not_take_the_report_along() {
    let world = World::new();
    let full = "mount -t tmpfs -o size=4k tmpfs /mnt";
    let arguments = [
        "--format",
        "html",
        "--output",
        "/mnt/report.html",
        "--runtime",
        CRUN,
    ];
    let outcome = run_without_kvm(&world, &arguments, full).expect_code(1);
    let outcome = outcome.expect_message("/mnt/report.html");
    assert!(outcome.stdout.contains("  crun "), "{outcome:?}");
    // No room for the bench's own files.
    let full = format!("{full} && mount --bind /mnt {}", scratch(&world).display());
    let outcome = run_without_kvm(&world, &["--runtime", CRUN], &full);
    let _ = outcome.expect_code(1).expect_message("No space left");
    assert_nothing_in_scratch(&world);
}
