//! Signals, and exit codes that tell of them.

use bulkhead_tests::{Running, World, wait_until};
use rustix::process::Signal;

#[test]
fn death_by_signal_is_128_plus_its_number() {
    let world = World::new();
    // The container's first process is its namespace's init, which cannot kill
    // itself; its child can.
    let outcome = world.bundle().shell("sh -c 'kill -9 $$'; exit $?").run();
    let _ = outcome.expect_code(137);
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
    let running: Running = world.bundle().shell("sleep 1000").start();
    wait_until("the VMM is started", || !world.processes("vmm").is_empty());
    running.signal(Signal::TERM);
    let _ = running.wait().expect_code(143);
}
