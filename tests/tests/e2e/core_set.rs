//! What must work on every kind of host.

use std::fs;

use bulkhead_tests::World;
use serde_json::json;

#[test]
fn boots_and_runs_a_command_on_another_kernel() {
    let world = World::new();
    let outcome = world
        .bundle()
        .shell("uname -r; cat /proc/cmdline")
        .run()
        .expect_code(0);
    assert!(outcome.stdout.starts_with("6.12."), "{outcome:#?}");
    // The release may be the host's by chance; what a kernel was started with is its own.
    assert!(
        outcome.stdout.contains("virtio_mmio.device="),
        "{outcome:#?}"
    );
    assert!(
        !fs::read_to_string("/proc/cmdline")
            .unwrap()
            .contains("virtio_mmio.device=")
    );
}

#[test]
fn exit_code_is_passed_through() {
    let world = World::new();
    let _ = world.bundle().shell("exit 7").run().expect_code(7);
}

#[test]
fn standard_streams_stay_apart() {
    let world = World::new();
    let outcome = world
        .bundle()
        .shell("echo out; echo err >&2")
        .run()
        .expect_code(0);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn standard_input_reaches_the_container_and_ends() {
    let world = World::new();
    let mut running = world.bundle().command(&["/bin/cat"]).start();
    let mut input = running.stdin().expect("piped");
    std::io::Write::write_all(&mut input, b"across the wall").expect("cat reads");
    drop(input);
    assert_eq!(running.wait().expect_code(0).stdout, "across the wall");
}

#[test]
fn files_go_both_ways() {
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("cat /from-host && echo from-guest > /to-host");
    fs::write(bundle.file("/from-host"), "from-host\n").unwrap();
    assert_eq!(bundle.run().expect_code(0).stdout, "from-host\n");
    assert_eq!(
        fs::read_to_string(bundle.file("/to-host")).unwrap(),
        "from-guest\n"
    );
}

#[test]
fn several_vcpus_come_up() {
    let world = World::new();
    let bundle = world.bundle().command(&["/bin/nproc"]);
    let bundle = bundle.set("/annotations", json!({ "dev.bulkhead.vcpus": "3" }));
    assert_eq!(bundle.run().expect_code(0).stdout, "3\n");
}
