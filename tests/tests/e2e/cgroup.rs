//! The container's cgroup on the host.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_tests::World;
use serde_json::json;

pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// Where a world's containers have their cgroups.
pub(crate) fn parent(world: &World) -> String {
    let name = world.path().file_name().unwrap_or_default();
    format!("/bulkhead-test-{}", name.display())
}

fn directory(path: &str) -> PathBuf {
    Path::new(ROOT).join(path.trim_start_matches('/'))
}

/// The pids in a cgroup, in ascending order.
pub(crate) fn processes(cgroup: &Path) -> Vec<i32> {
    let list = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
    let mut pids: Vec<_> = list.lines().map(|pid| pid.parse().unwrap()).collect();
    pids.sort_unstable();
    pids
}

#[test]
fn sandbox_is_counted_and_limited_in_the_containers_cgroup() {
    let world = World::new();
    let parent = parent(&world);
    let path = format!("{parent}/c1");
    let bundle = world
        .bundle()
        .command(&["/bin/sleep", "1000"])
        .set("/linux/cgroupsPath", json!(path))
        .set(
            "/linux/resources",
            json!({
                "memory": { "limit": 512 << 20 },
                "cpu": { "shares": 1024, "quota": 50_000, "period": 100_000 },
                "pids": { "limit": 10 },
            }),
        );
    bundle.create("c1");
    let cgroup = directory(&path);
    assert_eq!(processes(&cgroup), world.sandbox());
    let read = |file| fs::read_to_string(cgroup.join(file)).unwrap();
    assert_eq!(read("cpu.max"), "50000 100000\n");
    // The guest's memory, which is more than the container's, and ours.
    assert_eq!(read("memory.max"), format!("{}\n", (512 + 64 + 64) << 20));
    assert_ne!(read("pids.max"), "max\n");
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
    assert!(!cgroup.exists());
    fs::remove_dir(directory(&parent)).unwrap();
}

#[test]
fn container_in_the_foreground_leaves_no_cgroup() {
    let world = World::new();
    let parent = parent(&world);
    let bundle = world
        .bundle()
        .shell("true")
        .set("/linux/cgroupsPath", json!(format!("{parent}/c1")));
    let _ = bundle.run().expect_code(0);
    fs::remove_dir(directory(&parent)).unwrap();
}

#[test]
fn limits_hold_in_the_guest_without_a_cgroup_on_the_host() {
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("cat /sys/fs/cgroup/pids.max")
        .set("/linux/cgroupsPath", json!("/never-made"))
        .set("/linux/resources", json!({ "pids": { "limit": 10 } }));
    let mut command = world.bulkhead(["--cgroup-manager", "disabled", "run", "--bundle"]);
    command.arg(bundle.path()).arg("test");
    bundle.write();
    let outcome = bulkhead_tests::Outcome::of(&mut command).expect_code(0);
    assert_eq!(outcome.stdout, "10\n");
    assert!(!directory("/never-made").exists());
}
