//! Further processes in a container.

use std::fs;
use std::process::{ExitStatus, Stdio};

use bulkhead_tests::{Outcome, Running, World, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// A container `c1` that has nothing to do.
fn idle_container(world: &World) {
    world.bundle().command(&["/bin/sleep", "1000"]).create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
}

fn delete(world: &World) {
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

/// How many processes of the container have a command line with `text` in it.
fn count(world: &World, text: &str) -> usize {
    let list = world.run(["exec", "c1", "ps", "-o", "args"]).expect_code(0);
    list.stdout.lines().filter(|l| l.contains(text)).count()
}

/// `exec --detach`, which leaves a process behind that keeps its streams.
fn exec_detached(world: &World, arguments: &[&str]) -> ExitStatus {
    let mut command = world.bulkhead(["exec", "--detach"]);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("bulkhead can be started")
}

#[test]
fn process_runs_beside_the_container() {
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("echo mine > /tmp/file; touch /up; exec sleep 1000");
    bundle.create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    wait_until("it is up", || bundle.file("/up").exists());

    let outcome = world.run(["exec", "c1", "cat", "/tmp/file"]).expect_code(0);
    assert_eq!(outcome.stdout, "mine\n");
    let outcome = world.run([
        "exec",
        "--user",
        "5:6",
        "--cwd",
        "/tmp",
        "--env",
        "A=b",
        "c1",
        "sh",
        "-c",
        "id -u; id -g; pwd; echo $A; exit 42",
    ]);
    assert_eq!(outcome.expect_code(42).stdout, "5\n6\n/tmp\nb\n");
    let _ = world
        .run(["exec", "c1", "no-such-command"])
        .expect_code(127)
        .expect_message("no-such-command");
    let _ = world
        .run(["exec", "c1", "/etc/passwd"])
        .expect_code(126)
        .expect_message("/etc/passwd");
    // What the dead leave open does not keep the caller.
    let outcome = world
        .run(["exec", "c1", "sh", "-c", "sleep 1000 & echo started"])
        .expect_code(0);
    assert_eq!(outcome.stdout, "started\n");

    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn many_execs_at_once() {
    let world = World::new();
    let bundle = world.bundle().command(&["/bin/sleep", "1000"]);
    bundle.create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let world = &world;
            scope.spawn(move || {
                let text = format!("number {n}");
                let outcome = world.run(["exec", "c1", "echo", &text]).expect_code(0);
                assert_eq!(outcome.stdout.trim(), text);
            });
        }
    });
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn killed_on_the_host_is_killed_in_the_guest() {
    let world = World::new();
    idle_container(&world);
    let pid_file = world.path().join("pid");
    let pid_file_option = ["--pid-file", pid_file.to_str().unwrap()];
    let arguments = [&pid_file_option[..], &["c1", "sleep", "4321"]].concat();
    assert!(exec_detached(&world, &arguments).success());
    assert_eq!(count(&world, "sleep 4321"), 1);
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert_eq!(world.processes("exec"), [pid]);
    let directory = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(directory.to_str(), Some("/"), "no directory is kept busy");
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    wait_until("it is gone", || count(&world, "sleep 4321") == 0);
    assert_eq!(world.state("c1")["status"], "running");
    delete(&world);
}

#[test]
fn process_that_stands_for_it_ends_with_its_code_and_takes_signals() {
    let world = World::new();
    idle_container(&world);
    let script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done";
    let running = Running::start(
        world
            .bulkhead(["exec", "c1", "sh", "-c", script])
            .stdin(Stdio::null()),
    );
    wait_until("it runs", || count(&world, "exit 9") > 0);
    running.signal(Signal::TERM);
    assert_eq!(running.wait().expect_code(9).stdout, "up\n");
    delete(&world);
}

#[test]
fn pid_file_that_cannot_be_written_fails_the_command() {
    let world = World::new();
    idle_container(&world);
    let pid_file = ["--pid-file", "/no/such/directory/pid"];
    let arguments = [&pid_file[..], &["c1", "sleep", "4321"]].concat();
    assert_eq!(exec_detached(&world, &arguments).code(), Some(255));
    let mut exec = world.bulkhead(["exec"]);
    let _ = Outcome::of(exec.args(&arguments))
        .expect_code(255)
        .expect_message("pid file");
    wait_until("it is gone", || count(&world, "sleep 4321") == 0);
    delete(&world);
}

#[test]
fn process_is_described_by_a_file() {
    let world = World::new();
    idle_container(&world);
    let file = world.path().join("process.json");
    let process = json!({
        "args": ["/bin/sh", "-c", "id -u; pwd; echo $A; touch /tmp/ran"], "cwd": "/tmp",
        "env": ["PATH=/bin", "A=b"], "user": { "uid": 0, "gid": 0 },
    });
    fs::write(&file, process.to_string()).unwrap();
    // Relative: what stays behind works in another directory.
    let mut exec = world.bulkhead(["exec", "--process", "process.json", "c1"]);
    let outcome = Outcome::of(exec.current_dir(world.path())).expect_code(0);
    assert_eq!(outcome.stdout, "0\n/tmp\nb\n");
    let _ = world.run(["exec", "c1", "rm", "/tmp/ran"]).expect_code(0);
    let mut exec = world.bulkhead(["exec", "--detach", "--process", "process.json", "c1"]);
    exec.stdin(Stdio::null()).stdout(Stdio::null());
    assert!(exec.current_dir(world.path()).status().unwrap().success());
    wait_until("it ran", || {
        world.run(["exec", "c1", "test", "-e", "/tmp/ran"]).code == 0
    });
    delete(&world);
}

#[test]
fn container_that_is_not_started_has_processes_too() {
    let world = World::new();
    world.bundle().command(&["/bin/sleep", "1000"]).create("c1");
    let outcome = world.run(["exec", "c1", "echo", "early"]).expect_code(0);
    assert_eq!(outcome.stdout, "early\n");
    assert_eq!(world.state("c1")["status"], "created");
    let _ = world.run(["start", "c1"]).expect_code(0);
    delete(&world);
}

#[test]
fn lost_with_its_guest_is_as_killed() {
    let world = World::new();
    idle_container(&world);
    let running = Running::start(
        world
            .bulkhead(["exec", "c1", "sh", "-c", "echo before; exec sleep 4321"])
            .stdin(Stdio::null()),
    );
    wait_until("it runs", || count(&world, "sleep 4321") == 1);
    for pid in world.processes("vmm") {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    let outcome = running.wait().expect_code(137).expect_message("was lost");
    assert_eq!(outcome.stdout, "before\n");
    wait_until("it stopped", || world.state("c1")["status"] == "stopped");
    let _ = world.run(["delete", "c1"]).expect_code(0);
}

#[test]
fn process_has_the_cgroup_and_the_processors_that_are_asked_for() {
    let world = World::new();
    let cgroups = json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"],
    });
    let bundle = world
        .bundle()
        .shell("mkdir -p /sys/fs/cgroup/a/b && touch /up && exec sleep 1000")
        .push("/mounts", cgroups);
    bundle.create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    wait_until("it is up", || bundle.file("/up").exists());
    let look = ["c1", "cat", "/proc/self/cgroup"];
    let inside = |cgroup: &str| world.run(["exec", "--cgroup", cgroup].iter().chain(&look));
    assert_eq!(inside("/a/b").expect_code(0).stdout, "0::/a/b\n");
    assert_eq!(inside("a").expect_code(0).stdout, "0::/a\n");
    assert_eq!(inside("/").expect_code(0).stdout, "0::/\n");
    let _ = inside("../elsewhere")
        .expect_code(255)
        .expect_message("cgroup");

    let exec = |cpus: &str| {
        let process = json!({
            "args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/",
            "env": ["PATH=/bin"], "user": { "uid": 0, "gid": 0 },
            "execCPUAffinity": { "initial": "0", "final": cpus },
        });
        let file = world.path().join("process.json");
        fs::write(&file, process.to_string()).unwrap();
        world.run(["exec", "--process", file.to_str().unwrap(), "c1"])
    };
    assert_eq!(exec("0").expect_code(0).stdout, "Cpus_allowed_list:\t0\n");
    let _ = exec("900").expect_code(255).expect_message("processors");
    delete(&world);
}
