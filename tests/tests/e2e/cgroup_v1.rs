//! The container's cgroups on a host with cgroup v1, where each controller has a
//! hierarchy of its own.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_tests::{Bundle, World, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::cgroup::{ROOT, parent, processes};

/// A world on such a host.
fn world() -> World {
    let is_v1 = Path::new(ROOT).join("memory/cgroup.procs").exists();
    assert!(
        is_v1,
        "this host has no cgroup v1; `cargo xtask test` has one"
    );
    World::new()
}

fn bundle(world: &World) -> Bundle<'_> {
    world
        .bundle()
        .command(&["/bin/sleep", "1000"])
        .set("/linux/cgroupsPath", json!(format!("{}/c1", parent(world))))
        .set(
            "/linux/resources",
            json!({
                "memory": { "limit": 512 << 20, "swap": 600 << 20 },
                "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0" },
                "pids": { "limit": 10 },
            }),
        )
}

/// The container's cgroups, by the hierarchies that have one.
fn cgroups(world: &World) -> Vec<PathBuf> {
    let path = format!("{}/c1", parent(world).trim_start_matches('/'));
    hierarchies()
        .map(|hierarchy| hierarchy.join(&path))
        .filter(|cgroup| cgroup.exists())
        .collect()
}

fn hierarchies() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(ROOT).unwrap().flatten();
    entries.map(|entry| entry.path())
}

/// Fails the test if there is a cgroup left, and removes those above.
fn assert_removed(world: &World) {
    let left = cgroups(world);
    assert!(left.is_empty(), "{left:?}");
    for hierarchy in hierarchies() {
        // Not every one has it.
        let _ = fs::remove_dir(hierarchy.join(parent(world).trim_start_matches('/')));
    }
}

/// What a controller's file holds for the container.
fn value(world: &World, controller: &str, file: &str) -> String {
    let parent = parent(world);
    let path = format!("{ROOT}/{controller}{parent}/c1/{file}");
    let value = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    value.trim_end().to_owned()
}

#[test]
fn sandbox_is_counted_and_limited_in_each_hierarchy() {
    let world = world();
    bundle(&world).create("c1");
    let expected = world.sandbox();
    let cgroups = cgroups(&world);
    for controller in [
        "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids",
    ] {
        let is_its = |cgroup: &&PathBuf| cgroup.starts_with(Path::new(ROOT).join(controller));
        assert!(cgroups.iter().any(|cgroup| is_its(&cgroup)), "{controller}");
    }
    for cgroup in &cgroups {
        assert_eq!(processes(cgroup), expected, "{}", cgroup.display());
    }
    let value = |controller, file| value(&world, controller, file);
    // The guest's memory, which is more than the container's, and ours.
    let memory = (512_u64 + 64 + 64) << 20;
    assert_eq!(value("memory", "memory.limit_in_bytes"), memory.to_string());
    let both = memory + (88 << 20);
    assert_eq!(
        value("memory", "memory.memsw.limit_in_bytes"),
        both.to_string()
    );
    assert_eq!(value("cpu", "cpu.shares"), "512");
    assert_eq!(value("cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(value("cpu", "cpu.cfs_period_us"), "100000");
    assert_eq!(value("cpuset", "cpuset.cpus"), "0");
    assert_eq!(value("pids", "pids.max"), "65");

    let _ = world.run(["start", "c1"]).expect_code(0);
    let update = [
        "update",
        "--cpu-quota",
        "20000",
        "--cpu-shares",
        "256",
        "c1",
    ];
    let _ = world.run(update).expect_code(0);
    assert_eq!(value("cpu", "cpu.cfs_quota_us"), "20000");
    assert_eq!(value("cpu", "cpu.shares"), "256");
    assert_eq!(value("memory", "memory.limit_in_bytes"), memory.to_string());
    assert_eq!(value("pids", "pids.max"), "65");
    let update = ["update", "--memory", "256M", "--memory-swap", "300M", "c1"];
    let _ = world.run(update).expect_code(0);
    let _ = world.run(["pause", "c1"]).expect_code(0);
    assert_eq!(world.state("c1")["status"], "paused");
    let _ = world.run(["resume", "c1"]).expect_code(0);
    let _ = world.run(["kill", "c1", "KILL"]).expect_code(0);
    wait_until("it stopped", || world.state("c1")["status"] == "stopped");
    let _ = world.run(["delete", "c1"]).expect_code(0);
    assert_removed(&world);
}

#[test]
fn container_in_the_foreground_leaves_no_cgroup() {
    let world = world();
    let _ = bundle(&world).shell("true").run().expect_code(0);
    assert_removed(&world);
}

#[test]
fn without_a_path_there_is_no_cgroup() {
    let world = world();
    let bundle = bundle(&world).set("/linux/cgroupsPath", json!(""));
    let outcome = bundle.shell("cat /sys/fs/cgroup/pids.max").run();
    assert_eq!(outcome.expect_code(0).stdout, "10\n");
    assert_removed(&world);
}

#[test]
fn cgroups_of_a_killed_monitor_go_with_delete() {
    let world = world();
    bundle(&world).create("c1");
    let monitor = world.processes("monitor")[0];
    kill_process(Pid::from_raw(monitor).unwrap(), Signal::KILL).unwrap();
    wait_until("the sandbox is gone", || {
        world.processes("vmm").is_empty() && world.processes("fsd").is_empty()
    });
    let _ = world.run(["delete", "c1"]).expect_code(0);
    assert_removed(&world);
}

#[test]
fn systemd_is_not_asked() {
    let world = world();
    let bundle = bundle(&world).set("/linux/cgroupsPath", json!("machine.slice:bulkhead:c1"));
    bundle.write();
    let mut command = world.bulkhead(["--systemd-cgroup", "run", "--bundle"]);
    command.arg(bundle.path()).arg("c1");
    let outcome = bulkhead_tests::Outcome::of(&mut command);
    assert_ne!(outcome.code, 0);
    let _ = outcome.expect_message("cgroup v2");
}
