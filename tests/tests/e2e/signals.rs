//! Signals, and exit codes that tell of them.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use bulkhead_tests::{PROBE, Running, World, wait_until};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn death_by_signal_is_128_plus_its_number() {
    let world = World::new();
    // The container's first process is its namespace's init, which cannot kill
    // itself; its child can.
    let outcome = world.bundle().shell("sh -c 'kill -9 $$'; exit $?").run();
    let _ = outcome.expect_code(137);
}

#[test]
fn signal_right_after_the_first_output_is_for_the_container() {
    let world = World::new();
    let script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done";
    for _ in 0..5 {
        let mut run = world.bundle().shell(script).verb("run", &["test"]);
        let mut child = run.stdout(Stdio::piped()).spawn().unwrap();
        let mut up = [0; 3];
        let mut output = child.stdout.take().unwrap();
        output.read_exact(&mut up).unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }
}

#[test]
fn signal_to_run_reaches_the_container() {
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("trap 'echo caught; exit 5' TERM; touch /up; while :; do sleep 0.1; done");
    let running = bundle.start();
    wait_until("the container runs", || bundle.file("/up").exists());
    running.signal(Signal::TERM);
    assert_eq!(running.wait().expect_code(5).stdout, "caught\n");
}

#[test]
fn interrupt_ends_a_container_that_does_not_care() {
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("trap 'exit 130' INT; touch /up; while :; do sleep 0.1; done");
    let running = bundle.start();
    wait_until("the container runs", || bundle.file("/up").exists());
    running.signal(Signal::INT);
    let _ = running.wait().expect_code(130);
}

#[test]
fn signal_before_the_guest_is_up_ends_the_start() {
    let world = World::new();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let running: Running = world.bundle().shell("sleep 1000").start();
        wait_until("the VMM is started", || !world.processes("vmm").is_empty());
        running.signal(signal);
        let _ = running.wait().expect_code(code);
    }
}

#[test]
fn container_that_ended_cannot_be_killed_in_words_that_engines_know() {
    let world = World::new();
    world.bundle().command(&["/bin/true"]).create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    wait_until("it stopped", || world.state("c1")["status"] == "stopped");
    for signal in ["TERM", "KILL"] {
        let outcome = world.run(["kill", "c1", signal]);
        let _ = outcome
            .expect_code(1)
            .expect_message("container not running");
    }
    let _ = world.run(["delete", "c1"]).expect_code(0);
}

/// Nobody reads the output for a while, so that the container has ended, but
/// its last output is still in the guest.
#[test]
fn kill_leaves_a_container_that_is_ending_its_last_output() {
    /// What a pipe holds.
    const PIPE: u64 = 64 << 10;
    let world = World::new();
    let script = "until test -e /go; do sleep 0.1; done; exit 5";
    let bundle = world
        .bundle()
        .shell(&format!("{PROBE} write 3000000 & {script}"));
    let mut child = bundle
        .verb("run", &["test"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    wait_until("the pipe is full", || {
        rustix::io::ioctl_fionread(&output).unwrap() == PIPE
    });
    fs::write(bundle.file("/go"), "").unwrap();
    wait_until("it has ended", || {
        world.run(["kill", "test", "CONT"]).code != 0
    });
    for _ in 0..2 {
        let outcome = world.run(["kill", "test", "KILL"]);
        let _ = outcome
            .expect_code(1)
            .expect_message("container not running");
    }
    let mut received = Vec::new();
    output.read_to_end(&mut received).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert!(received.len() as u64 > PIPE, "{} bytes", received.len());
}
