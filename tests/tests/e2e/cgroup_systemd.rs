//! The container's cgroup on a host whose cgroups are systemd's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bulkhead_tests::{Bundle, Outcome, Systemd, World, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::cgroup::processes;

const SCOPE: &str = "machine.slice/bulkhead-c1.scope";

/// A container as an engine asks for it that leaves cgroups to systemd.
fn bundle(world: &World) -> Bundle<'_> {
    world
        .bundle()
        .command(&["/bin/sleep", "1000"])
        .set("/linux/cgroupsPath", json!("machine.slice:bulkhead:c1"))
        .set("/linux/resources", resources())
}

fn resources() -> Value {
    json!({
        "memory": { "limit": 512 << 20 },
        "cpu": { "shares": 2048, "quota": 50_000, "period": 100_000 },
        "pids": { "limit": 10 },
    })
}

/// Creates the container `c1`.
fn create(systemd: &Systemd<'_>, world: &World, bundle: &Bundle<'_>) {
    bundle.write();
    let mut command = world.bulkhead(["--systemd-cgroup", "create", "--bundle"]);
    command.arg(bundle.path()).arg("c1");
    // Not pipes: the container holds its standard streams as long as it lives.
    let mut command = systemd.command(&command);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().unwrap();
    assert!(status.success(), "create: {status}");
}

fn run<const N: usize>(systemd: &Systemd<'_>, world: &World, arguments: [&str; N]) -> Outcome {
    systemd.run(&world.bulkhead(arguments)).expect_code(0)
}

fn value(cgroup: &Path, file: &str) -> String {
    let value = fs::read_to_string(cgroup.join(file)).unwrap();
    value.trim_end().to_owned()
}

/// The sockets that a process has open.
fn sockets(pid: i32) -> usize {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    let is_socket = |target: &PathBuf| target.to_string_lossy().starts_with("socket:");
    targets.filter(is_socket).count()
}

fn property(systemd: &Systemd<'_>, name: &str) -> String {
    let mut command = Command::new("systemctl");
    command.args(["show", "--value", "--property", name, "bulkhead-c1.scope"]);
    let outcome = systemd.run(&command).expect_code(0);
    outcome.stdout.trim_end().to_owned()
}

#[test]
fn sandbox_is_a_scope_with_the_containers_limits() {
    let world = World::new();
    let systemd = Systemd::boot(&world);
    create(&systemd, &world, &bundle(&world));
    let scope = systemd.cgroup(SCOPE);
    assert_eq!(processes(&scope), world.sandbox());
    assert_eq!(value(&scope, "cpu.max"), "50000 100000");
    // The guest's memory, which is more than the container's, and ours.
    let memory = (512_u64 + 64 + 64) << 20;
    assert_eq!(value(&scope, "memory.max"), memory.to_string());
    assert_eq!(value(&scope, "pids.max"), "65");
    // systemd would undo what it did not know of.
    assert_eq!(property(&systemd, "MemoryMax"), memory.to_string());
    assert_eq!(property(&systemd, "TasksMax"), "65");
    assert_eq!(property(&systemd, "ActiveState"), "active");

    let _ = run(&systemd, &world, ["start", "c1"]);
    let update = ["update", "--memory", "256M", "--cpu-quota", "20000", "c1"];
    let _ = run(&systemd, &world, update);
    assert_eq!(value(&scope, "cpu.max"), "20000 100000");
    assert_eq!(property(&systemd, "CPUQuotaPerSecUSec"), "200ms");
    let _ = run(&systemd, &world, ["pause", "c1"]);
    let _ = run(&systemd, &world, ["resume", "c1"]);
    let _ = run(&systemd, &world, ["kill", "c1", "KILL"]);
    wait_until("the container is stopped", || {
        run(&systemd, &world, ["state", "c1"])
            .stdout
            .contains("stopped")
    });
    let _ = run(&systemd, &world, ["delete", "c1"]);
    assert!(!scope.exists());
    assert_eq!(property(&systemd, "LoadState"), "not-found");
}

#[test]
fn cpus_and_weights_are_given_to_the_scope_and_updates_change_nothing_else() {
    let world = World::new();
    let systemd = Systemd::boot(&world);
    let bundle = bundle(&world).set("/linux/resources/cpu/cpus", json!("0"));
    create(&systemd, &world, &bundle);
    let scope = systemd.cgroup(SCOPE);
    assert_eq!(value(&scope, "cpuset.cpus"), "0");
    let weight = value(&scope, "cpu.weight");
    let _ = run(&systemd, &world, ["update", "--cpu-shares", "512", "c1"]);
    assert_ne!(value(&scope, "cpu.weight"), weight);
    assert_eq!(value(&scope, "cpu.max"), "50000 100000");
    assert_eq!(value(&scope, "cpuset.cpus"), "0");
    let _ = run(&systemd, &world, ["delete", "--force", "c1"]);
    assert!(!scope.exists());
}

#[test]
fn connection_to_systemd_is_nobodys_but_the_calls() {
    let world = World::new();
    let systemd = Systemd::boot(&world);
    let plain = bundle(&world).set("/linux/cgroupsPath", json!(""));
    create(&systemd, &world, &plain);
    let expected = world.sandbox().into_iter().map(sockets).sum::<usize>();
    let _ = run(&systemd, &world, ["delete", "--force", "c1"]);
    create(&systemd, &world, &bundle(&world));
    assert_eq!(
        world.sandbox().into_iter().map(sockets).sum::<usize>(),
        expected
    );
    let _ = run(&systemd, &world, ["delete", "--force", "c1"]);
}

#[test]
fn name_that_is_free_again_is_taken_again() {
    let world = World::new();
    let systemd = Systemd::boot(&world);
    for _ in 0..2 {
        create(&systemd, &world, &bundle(&world));
        assert_eq!(processes(&systemd.cgroup(SCOPE)), world.sandbox());
        let _ = run(&systemd, &world, ["delete", "--force", "c1"]);
        assert!(!systemd.cgroup(SCOPE).exists());
    }
}

#[test]
fn container_in_the_foreground_leaves_no_scope() {
    let world = World::new();
    let systemd = Systemd::boot(&world);
    let bundle = bundle(&world).shell("true");
    bundle.write();
    let mut command = world.bulkhead(["--systemd-cgroup", "run", "--bundle"]);
    command.arg(bundle.path()).arg("c1");
    let _ = systemd.run(&command).expect_code(0);
    assert!(!systemd.cgroup(SCOPE).exists());
}

#[test]
fn scope_of_a_killed_monitor_goes_with_delete() {
    let world = World::new();
    let systemd = Systemd::boot(&world);
    create(&systemd, &world, &bundle(&world));
    let monitor = world.processes("monitor")[0];
    kill_process(Pid::from_raw(monitor).unwrap(), Signal::KILL).unwrap();
    wait_until("the sandbox is gone", || {
        world.processes("vmm").is_empty() && world.processes("fsd").is_empty()
    });
    let _ = run(&systemd, &world, ["delete", "c1"]);
    assert!(!systemd.cgroup(SCOPE).exists());
}
