//! What can be asked of, and done to, a container as a whole while it lives.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use bulkhead_tests::{Outcome, Running, World, wait_until};
use serde_json::{Value, json};

#[test]
fn processes_are_those_of_the_guest_and_for_engines_that_of_the_host() {
    let world = World::new();
    let bundle = world.bundle().shell("sleep 1000 & sleep 2000 & wait");
    bundle.create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    let list = || world.run(["ps", "c1", "-ef"]).expect_code(0).stdout;
    let both_run = |list: &str| list.contains("  sleep 1000\n") && list.contains("  sleep 2000\n");
    wait_until("its children run", || both_run(&list()));
    let list = list();
    assert!(list.starts_with("UID "), "{list}");
    assert_eq!(list.lines().count(), 4, "{list}");
    let pids = world.run(["ps", "--format", "json", "c1"]).expect_code(0);
    let pids: Value = serde_json::from_str(&pids.stdout).unwrap();
    assert_eq!(pids, json!([world.state("c1")["pid"]]));
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn paused_container_stands_still_until_it_is_resumed() {
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("while :; do echo x >>/ticks; sleep 0.05; done");
    bundle.create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    let ticks = || fs::read(bundle.file("/ticks")).map_or(0, |ticks| ticks.len());
    wait_until("it runs", || ticks() > 0);
    let _ = world.run(["pause", "c1"]).expect_code(0);
    assert_eq!(world.state("c1")["status"], "paused");
    let before = ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(ticks(), before);
    let refusal = world.run(["exec", "c1", "true"]).expect_code(255);
    let _ = refusal.expect_message("paused");
    let _ = world.run(["pause", "c1"]).expect_code(1);
    let _ = world.run(["resume", "c1"]).expect_code(0);
    assert_eq!(world.state("c1")["status"], "running");
    wait_until("it goes on", || ticks() > before);
    let _ = world.run(["resume", "c1"]).expect_code(1);
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn paused_container_can_be_killed() {
    let world = World::new();
    world.bundle().command(&["/bin/sleep", "1000"]).create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    let _ = world.run(["pause", "c1"]).expect_code(0);
    let _ = world.run(["kill", "c1", "KILL"]).expect_code(0);
    wait_until("it stopped", || world.state("c1")["status"] == "stopped");
    assert_eq!(world.state("c1")["exit"]["code"], 137);
    let _ = world.run(["delete", "c1"]).expect_code(0);
}

#[test]
fn process_added_to_a_paused_container_waits_for_the_end_of_the_pause() {
    let world = World::new();
    world.bundle().command(&["/bin/sleep", "1000"]).create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    let _ = world.run(["pause", "c1"]).expect_code(0);
    let mut exec = world.bulkhead(["exec", "--ignore-paused", "c1", "echo", "late"]);
    let exec = Running::start(exec.stdin(Stdio::null()));
    // Long enough for it to run if it could.
    std::thread::sleep(Duration::from_millis(500));
    let _ = world.run(["resume", "c1"]).expect_code(0);
    assert_eq!(exec.wait().expect_code(0).stdout, "late\n");
    let _ = world.run(["pause", "c1"]).expect_code(0);
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn limits_can_be_changed() {
    let world = World::new();
    world.bundle().command(&["/bin/sleep", "1000"]).create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    let update = |arguments: &[&str]| {
        let options = ["update"].into_iter().chain(arguments.iter().copied());
        world.run(options.chain(["c1"]))
    };
    let _ = update(&["--memory", "64M", "--pids-limit", "20"]).expect_code(0);
    let resources = world.path().join("resources");
    fs::write(&resources, r#"{"cpu": {"quota": 20000, "period": 50000}}"#).unwrap();
    let _ = update(&["--resources", resources.to_str().unwrap()]).expect_code(0);
    let line = world.line(["update", "--resources", "-", "c1"]);
    let script = format!(r#"echo '{{"pids": {{"limit": 21}}}}' | {line}"#);
    let mut typed = Command::new("sh");
    let _ = Outcome::of(typed.args(["-c", &script])).expect_code(0);
    let files = "cd /sys/fs/cgroup && cat memory.max pids.max cpu.max";
    let limits = world.run(["exec", "c1", "sh", "-c", files]).expect_code(0);
    assert_eq!(limits.stdout, "67108864\n21\n20000 50000\n");
    let refusal = update(&["--memory", "16G"]).expect_code(1);
    let _ = refusal.expect_message("256 MiB");
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
    let _ = update(&["--pids-limit", "9"]).expect_code(1);
}

#[test]
fn statistics_have_the_form_of_runc() {
    let world = World::new();
    world.bundle().command(&["/bin/sleep", "1000"]).create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    let events = world.run(["events", "--stats", "c1"]).expect_code(0);
    let event: Value = serde_json::from_str(&events.stdout).unwrap();
    assert_eq!(
        (event["type"].as_str(), event["id"].as_str()),
        (Some("stats"), Some("c1"))
    );
    let data = &event["data"];
    assert!(
        data["memory"]["usage"]["usage"].as_u64() > Some(0),
        "{data:#}"
    );
    assert!(data["cpu"]["usage"]["total"].as_u64() > Some(0), "{data:#}");
    assert_eq!(data["pids"]["current"], 1);
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn events_tell_of_a_lack_of_memory_and_end_with_the_container() {
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("until test -e /go; do sleep 0.1; done; (tail /dev/zero); sleep 2; exit 3")
        .set(
            "/linux/resources",
            json!({ "memory": { "limit": 32 << 20 } }),
        );
    bundle.create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    let line = world.line(["events", "--interval", "100ms", "c1"]);
    let go = bundle.file("/go").display().to_string();
    let script = format!("{line} | (read first; touch '{go}'; cat)");
    let mut command = Command::new("sh");
    let events = Outcome::of(command.args(["-c", &script])).expect_code(0);
    assert!(
        events.stdout.contains(r#"{"type":"oom","id":"c1"}"#),
        "{events:?}"
    );
    wait_until("it stopped", || world.state("c1")["status"] == "stopped");
    let _ = world.run(["delete", "c1"]).expect_code(0);
}

/// The list is the runtime's, the options are the agent's.
#[test]
fn mount_options_that_are_told_are_understood() {
    let world = World::new();
    let features = world.run(["features"]).expect_code(0);
    let features: Value = serde_json::from_str(&features.stdout).unwrap();
    let options = features["mountOptions"].as_array().unwrap();
    let mut bundle = world.bundle().shell("grep -c ' /m/' /proc/mounts");
    // Those that make another kind of mount have tests of their own.
    let of_binds = ["bind", "rbind", "idmap", "ridmap"];
    let options = options.iter().filter(|o| of_binds.iter().all(|b| o != b));
    let mut count = 0;
    for option in options {
        count += 1;
        let destination = format!("/m/{}", option.as_str().unwrap());
        let mount = json!({ "destination": destination, "type": "tmpfs", "options": [option] });
        bundle = bundle.push("/mounts", mount);
    }
    let outcome = bundle.run().expect_code(0);
    assert_eq!(outcome.stdout.trim(), count.to_string());
}

#[test]
fn what_cannot_be_done_is_said() {
    let world = World::new();
    for verb in ["checkpoint", "restore"] {
        let refusal = world.run([verb, "--image-path", "/i", "c1"]).expect_code(1);
        let _ = refusal.expect_message("not supported");
    }
    for verb in ["ps", "pause", "resume", "update", "events"] {
        let refusal = world.run([verb, "nobody"]).expect_code(1);
        let _ = refusal.expect_message("does not exist");
    }
}
