//! Input that is wrong: a message that names it, a code that is not zero, and
//! nothing left behind (which every `World` checks at its end).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bulkhead_tests::{Outcome, World, machine_code};
use serde_json::json;

#[test]
fn command_line_that_makes_no_sense_is_told_to_the_engine() {
    let world = World::new();
    let log = world.path().join("log");
    let log = log.to_str().unwrap();
    let options = ["--log", log, "--log-format=json"];
    for (verb, code) in [("start", 1), ("exec", 255)] {
        let arguments = options.into_iter().chain([verb, "--no-such-flag", "c1"]);
        let _ = world.run(arguments).expect_code(code);
    }
    let text = fs::read_to_string(log).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    for line in text.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            entry["msg"].as_str().unwrap().contains("--no-such-flag"),
            "{line}"
        );
    }
}

#[test]
fn device_of_the_host_is_refused() {
    let world = World::new();
    let disk = json!({ "path": "/dev/sda", "type": "b", "major": 8, "minor": 0 });
    let bundle = world
        .bundle()
        .shell("true")
        .set("/linux/devices", json!([disk]));
    let _ = bundle.run().expect_code(1).expect_message("/dev/sda (8:0)");
}

#[test]
fn bundle_that_is_not_there() {
    let world = World::new();
    let bundle = world.path().join("nowhere");
    let outcome = world.run(["run", "--bundle", bundle.to_str().unwrap(), "test"]);
    let _ = outcome.expect_code(1).expect_message("nowhere");
}

#[test]
fn configuration_that_is_missing_or_not_json() {
    let world = World::new();
    let bundle = world.bundle();
    let path = bundle.path().to_str().unwrap();
    fs::remove_file(bundle.path().join("config.json")).unwrap();
    let _ = world
        .run(["run", "-b", path, "test"])
        .expect_code(1)
        .expect_message("config.json");
    fs::write(bundle.path().join("config.json"), "{ \"ociVersion\": ").unwrap();
    let _ = world
        .run(["run", "-b", path, "test"])
        .expect_code(1)
        .expect_message("config.json");
}

#[test]
fn configuration_of_an_unknown_version() {
    let world = World::new();
    let bundle = world.bundle().set("/ociVersion", json!("7.0.0"));
    let _ = bundle.run().expect_code(1).expect_message("7.0.0");
}

#[test]
fn root_file_system_that_is_missing() {
    let world = World::new();
    let bundle = world.bundle().set("/root/path", json!("no-such-root"));
    let _ = bundle.run().expect_code(1).expect_message("no-such-root");
}

#[test]
fn command_that_does_not_exist() {
    let world = World::new();
    for command in ["no-such-command", "/no/such/command"] {
        let outcome = world.bundle().command(&[command]).run();
        let _ = outcome.expect_code(127).expect_message(command);
    }
}

#[test]
fn command_that_may_not_be_executed() {
    let world = World::new();
    let bundle = world.bundle().command(&["/plain"]);
    fs::write(bundle.file("/plain"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(bundle.file("/plain"), fs::Permissions::from_mode(0o644)).unwrap();
    let _ = bundle.run().expect_code(126).expect_message("/plain");
    let _ = world
        .bundle()
        .command(&["/etc"])
        .run()
        .expect_code(126)
        .expect_message("/etc");
}

#[test]
fn ids_that_are_in_use_unknown_or_illegal() {
    let world = World::new();
    let bundle = world.bundle().command(&["/bin/sleep", "1000"]);
    bundle.create("c1");
    let again = Outcome::of(&mut world.bundle().verb("create", &["c1"]));
    let _ = again.expect_code(1).expect_message("c1");
    assert_eq!(
        world.state("c1")["status"],
        "created",
        "the first one is untouched"
    );
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);

    for verb in ["state", "start", "kill", "delete"] {
        let _ = world
            .run([verb, "unknown"])
            .expect_code(1)
            .expect_message("unknown");
    }
    let _ = world
        .run(["exec", "unknown", "true"])
        .expect_code(255)
        .expect_message("unknown");
    for id in ["", "a/b", "..", "a b", &"x".repeat(1025)] {
        let outcome = Outcome::of(&mut world.bundle().verb("create", &["--", id]));
        let _ = outcome.expect_code(1).expect_message("container id");
    }
}

#[test]
fn more_memory_than_the_host_has() {
    let world = World::new();
    let bundle = world.bundle().shell("true");
    let bundle = bundle.set(
        "/annotations",
        json!({ "dev.bulkhead.memory-mib": "99999999" }),
    );
    let _ = bundle.run().expect_code(1).expect_message("memory");
    let bundle = bundle.set("/annotations", json!({ "dev.bulkhead.memory-mib": "lots" }));
    let _ = bundle.run().expect_code(1).expect_message("lots");
}

#[test]
fn guest_kernel_that_is_none() {
    let world = World::new();
    let kernel = world.path().join("vmlinux");
    let whole = machine_code::kernel(machine_code::LOOP);
    for (content, complaint) in [(&b"#!/bin/sh\n"[..], "ELF"), (&whole[..100], "truncated")] {
        fs::write(&kernel, content).unwrap();
        let bundle = world.bundle().shell("true");
        let outcome = Outcome::of(
            bundle
                .verb("run", &["test"])
                .env("BULKHEAD_KERNEL", &kernel),
        );
        let _ = outcome.expect_code(1).expect_message(complaint);
    }
    fs::remove_file(&kernel).unwrap();
    let bundle = world.bundle().shell("true");
    let outcome = Outcome::of(
        bundle
            .verb("run", &["test"])
            .env("BULKHEAD_KERNEL", &kernel),
    );
    let _ = outcome.expect_code(1).expect_message("vmlinux");
}

#[test]
fn log_file_holds_the_message_engines_look_for() {
    let world = World::new();
    let log = world.path().join("log.json");
    let outcome = world.run([
        "--log-format",
        "json",
        "--log",
        log.to_str().unwrap(),
        "state",
        "unknown",
    ]);
    let _ = outcome.expect_code(1);
    let text = fs::read_to_string(&log).unwrap();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "error");
    assert!(last["msg"].as_str().unwrap().contains("unknown"), "{last}");
}
