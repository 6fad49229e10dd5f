//! Guests that end before, or instead of, becoming what they should.

use std::fs;
use std::path::PathBuf;

use bulkhead_tests::{Outcome, PROBE, World, cpio, machine_code};
use serde_json::json;

/// Runs a container on a kernel that consists of `code`.
fn run_on(world: &World, code: &[u8], timeout_seconds: &str) -> Outcome {
    let kernel = world.path().join("vmlinux");
    fs::write(&kernel, machine_code::kernel(code)).unwrap();
    let bundle = world.bundle().shell("true");
    let mut command = bundle.verb("run", &["test"]);
    command
        .env("BULKHEAD_KERNEL", kernel)
        .env("BULKHEAD_START_TIMEOUT", timeout_seconds);
    Outcome::of(&mut command)
}

fn misbehaving_init(world: &World, behaviour: &str) -> PathBuf {
    let path = world.path().join("initramfs.cpio");
    cpio::write_misbehaving_init(&path, behaviour);
    path
}

#[test]
fn triple_fault() {
    let world = World::new();
    let outcome = run_on(&world, machine_code::TRIPLE_FAULT, "60");
    let _ = outcome.expect_code(1).expect_message("triple fault");
}

#[test]
fn power_off() {
    let world = World::new();
    let outcome = run_on(&world, machine_code::POWER_OFF, "60");
    let _ = outcome.expect_code(1).expect_message("powered off");
}

#[test]
fn kernel_of_a_relative_path_is_found_by_what_works_in_the_background() {
    let world = World::new();
    let kernel = machine_code::kernel(machine_code::POWER_OFF);
    fs::write(world.path().join("relative"), kernel).unwrap();
    let bundle = world.bundle().shell("true");
    let mut command = bundle.verb("create", &["test"]);
    command
        .env("BULKHEAD_KERNEL", "relative")
        .current_dir(world.path());
    let outcome = Outcome::of(&mut command);
    let _ = outcome.expect_code(1).expect_message("powered off");
}

#[test]
fn reset() {
    let world = World::new();
    let outcome = run_on(&world, machine_code::RESET, "60");
    let _ = outcome.expect_code(1).expect_message("reset");
}

#[test]
fn endless_loop() {
    let world = World::new();
    let outcome = run_on(&world, machine_code::LOOP, "3");
    let _ = outcome.expect_code(1).expect_message("3 s");
}

#[test]
fn init_that_ends_is_a_panic_with_its_text() {
    let world = World::new();
    let initramfs = misbehaving_init(&world, "exit");
    let bundle = world.bundle().shell("true");
    let outcome = Outcome::of(
        bundle
            .verb("run", &["test"])
            .env("BULKHEAD_INITRAMFS", initramfs),
    );
    let outcome = outcome.expect_code(1).expect_message("panic");
    let _ = outcome.expect_message("Attempted to kill init");
}

#[test]
fn init_that_never_calls_shows_the_console() {
    let world = World::new();
    let initramfs = misbehaving_init(&world, "hang");
    let bundle = world.bundle().shell("true");
    let mut command = bundle.verb("run", &["test"]);
    command
        .env("BULKHEAD_INITRAMFS", initramfs)
        .env("BULKHEAD_START_TIMEOUT", "20");
    let _ = Outcome::of(&mut command)
        .expect_code(1)
        .expect_message("about to hang");
}

/// Runs a container in a guest whose agent is not ours.
fn run_with_agent(behaviour: &str) -> Outcome {
    let world = World::new();
    let initramfs = misbehaving_init(&world, behaviour);
    let bundle = world.bundle().shell("true");
    let mut command = bundle.verb("run", &["test"]);
    command
        .env("BULKHEAD_INITRAMFS", initramfs)
        .env("BULKHEAD_START_TIMEOUT", "20");
    Outcome::of(&mut command)
}

#[test]
fn agent_that_talks_without_end_does_not_outlast_the_timeout() {
    let outcome = run_with_agent("chatter");
    let _ = outcome.expect_code(1).expect_message("within 20 s");
}

#[test]
fn agent_that_tells_the_end_before_the_beginning_is_not_believed() {
    let outcome = run_with_agent("end early");
    let _ = outcome
        .expect_code(1)
        .expect_message("does not belong to the request");
}

#[test]
fn agent_that_dies_takes_its_container_with_it() {
    let world = World::new();
    let bundle = world.bundle().command(&[PROBE, "crash-pid-1"]);
    let namespaces = json!([{ "type": "mount" }, { "type": "ipc" }, { "type": "uts" }]);
    let all = json!(["CAP_SYS_PTRACE"]);
    let bundle = bundle.set("/linux/namespaces", namespaces).set(
        "/process/capabilities",
        json!({ "bounding": all, "effective": all, "permitted": all }),
    );
    let outcome = bundle.run();
    assert_ne!(outcome.code, 0);
    let _ = outcome.expect_message("panic");
}
