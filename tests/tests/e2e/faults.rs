//! Processes killed, disks full, hosts that cannot: a container reported dead
//! with a reason, and nothing left behind.

use std::fs;
use std::process::Stdio;

use bulkhead_tests::{Bundle, Running, World, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// A container that runs until it is killed.
fn run_until_up(bundle: &Bundle<'_>) -> Running {
    let running = bundle.start();
    wait_until("the container runs", || bundle.file("/up").exists());
    running
}

fn kill(world: &World, process: &str) {
    signal(world, process, Signal::KILL);
}

fn signal(world: &World, process: &str, signal: Signal) {
    let pids = world.processes(process);
    assert_eq!(pids.len(), 1, "one {process}");
    kill_process(Pid::from_raw(pids[0]).unwrap(), signal).unwrap();
}

#[test]
fn killed_vmm() {
    let world = World::new();
    let bundle = world.bundle().shell("touch /up; exec sleep 1000");
    let running = run_until_up(&bundle);
    kill(&world, "vmm");
    let outcome = running.wait();
    assert_ne!(outcome.code, 0);
    let _ = outcome.expect_message("VMM").expect_message("signal 9");
}

#[test]
fn killed_file_server() {
    let world = World::new();
    let bundle = world.bundle().shell("touch /up; exec sleep 1000");
    let running = run_until_up(&bundle);
    kill(&world, "fsd");
    let outcome = running.wait();
    assert_ne!(outcome.code, 0);
    let _ = outcome.expect_message("file server");
}

#[test]
fn killed_monitor_takes_everything_along() {
    let world = World::new();
    let bundle = world.bundle().shell("touch /up; exec sleep 1000");
    bundle.create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    wait_until("the container runs", || bundle.file("/up").exists());
    let pid = i32::try_from(world.state("c1")["pid"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    wait_until("the VMM is gone", || world.processes("vmm").is_empty());
    wait_until("the file server is gone", || {
        world.processes("fsd").is_empty()
    });
    assert_eq!(world.state("c1")["status"], "stopped");
    let _ = world.run(["delete", "c1"]).expect_code(0);
}

#[test]
fn vmm_that_hangs_and_outlives_its_monitor_is_ended_by_delete() {
    let world = World::new();
    world.bundle().command(&["/bin/sleep", "1000"]).create("c1");
    signal(&world, "vmm", Signal::STOP);
    kill(&world, "monitor");
    wait_until("it stopped", || world.state("c1")["status"] == "stopped");
    let _ = world.run(["delete", "c1"]).expect_code(0);
    assert_eq!(world.processes("vmm"), [0; 0]);
}

#[test]
fn exec_that_waits_for_a_guest_that_hangs_can_be_interrupted() {
    let world = World::new();
    world.bundle().command(&["/bin/sleep", "1000"]).create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    signal(&world, "vmm", Signal::STOP);
    let running = Running::start(world.bulkhead(["exec", "c1", "true"]).stdin(Stdio::null()));
    wait_until("it waits", || !world.processes("exec").is_empty());
    running.signal(Signal::INT);
    let _ = running.wait().expect_code(130);
    signal(&world, "vmm", Signal::CONT);
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn killed_run_takes_everything_along() {
    let world = World::new();
    let bundle = world.bundle().shell("touch /up; exec sleep 1000");
    let running = run_until_up(&bundle);
    running.signal(Signal::KILL);
    let _ = running.wait().expect_code(137);
    wait_until("the VMM is gone", || world.processes("vmm").is_empty());
    assert_eq!(world.state("test")["status"], "stopped");
    let _ = world.run(["delete", "test"]).expect_code(0);
}

#[test]
fn killed_vmm_leaves_other_containers_alone() {
    let world = World::new();
    let (one, two) = (world.bundle(), world.bundle());
    let (one, two) = (one.shell("exec sleep 1000"), two.shell("exec sleep 1000"));
    one.create("one");
    let first = world.processes("vmm");
    two.create("two");
    for id in ["one", "two"] {
        let _ = world.run(["start", id]).expect_code(0);
    }
    kill_process(Pid::from_raw(first[0]).unwrap(), Signal::KILL).unwrap();
    wait_until("the first stopped", || {
        world.state("one")["status"] == "stopped"
    });
    let _ = world.run(["exec", "two", "true"]).expect_code(0);
    let _ = world.run(["delete", "one"]).expect_code(0);
    let _ = world.run(["delete", "--force", "two"]).expect_code(0);
}

#[test]
fn full_disk_while_state_is_written() {
    let world = World::new();
    let bundle = world.bundle().shell("true");
    bundle.write();
    let root = world.state_root();
    fs::create_dir_all(&root).unwrap();
    let preparation = format!(
        "mount -t tmpfs -o size=64k tmpfs '{0}' && \
         ! dd if=/dev/zero of='{0}/filler' bs=1k 2>/dev/null",
        root.display()
    );
    let outcome = bundle.run_after(&preparation);
    let _ = outcome
        .expect_code(1)
        .expect_message("No space left on device");
}

/// Shell commands that put the state directory on a small file system, and that
/// leave no space on it.
fn small_state(world: &World) -> (String, String) {
    let root = world.state_root().display().to_string();
    // Without it the filler would take all the space that other tests have.
    let mount =
        format!("{{ mkdir -p '{root}' && mount -t tmpfs -o size=1m tmpfs '{root}'; }} || exit 99");
    let fill = format!("! dd if=/dev/zero of='{root}/filler' bs=1k 2>/dev/null");
    (mount, fill)
}

#[test]
fn full_disk_at_the_end_does_not_change_the_exit_code() {
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("touch /up; until test -e /go; do sleep 0.1; done; exit 7");
    let (mount, fill) = small_state(&world);
    let (run, delete) = (
        bundle.line("run", &["--keep", "test"]),
        world.line(["delete", "test"]),
    );
    let (up, go) = (bundle.file("/up"), bundle.file("/go"));
    let script = format!(
        "{mount}; {run} & until test -e '{}'; do sleep 0.1; done; {fill}; touch '{}'; \
         wait $!; echo code $?; {delete}",
        up.display(),
        go.display()
    );
    let outcome = world.run_in_mount_namespace(&script).expect_code(0);
    assert_eq!(outcome.stdout, "code 7\n", "{outcome:#?}");
    let _ = outcome.expect_message("No space left on device");
}

#[test]
fn start_that_could_not_be_recorded_is_recorded_by_the_next() {
    let world = World::new();
    let bundle = world.bundle().command(&["/bin/sleep", "1000"]);
    let (mount, fill) = small_state(&world);
    let create = bundle.line("create", &["c1"]);
    let [start, state, delete] = [
        &["start", "c1"][..],
        &["state", "c1"],
        &["delete", "--force", "c1"],
    ]
    .map(|arguments| world.line(arguments));
    let script = format!(
        "{mount}; {create} >/dev/null 2>&1; {fill}; {start}; echo first $?; \
         {state} | grep status; rm '{}/filler'; {start}; echo second $?; {state} | grep status; \
         {delete}",
        world.state_root().display()
    );
    let outcome = world.run_in_mount_namespace(&script).expect_code(0);
    let lines: Vec<_> = outcome.stdout.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "first 0",
            "\"status\": \"created\",",
            "second 1",
            "\"status\": \"running\","
        ],
        "{outcome:#?}"
    );
}

#[test]
fn host_without_kvm_is_told_apart() {
    let world = World::new();
    let bundle = world.bundle().shell("true");
    for (preparation, complaint) in [
        (
            "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3",
            "/dev/kvm",
        ),
        ("mount --bind /dev/null /dev/kvm", "KVM"),
        // A device on a file system without devices may not even be opened by root.
        (
            "mount -t tmpfs -o nodev tmpfs /mnt && mknod /mnt/kvm c 10 232 && \
             mount --bind /mnt/kvm /dev/kvm",
            "no permission to open /dev/kvm",
        ),
    ] {
        let _ = bundle
            .run_after(preparation)
            .expect_code(1)
            .expect_message(complaint);
    }
}

#[test]
fn check_finds_this_host_good() {
    let world = World::new();
    let outcome = world.run(["check", "--format", "json"]).expect_code(0);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(report["usable"], true, "{report:#}");
}

#[test]
fn volume_that_disappears_is_an_error_of_its_files() {
    let world = World::new();
    let volume = world.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "content").unwrap();
    let mount = json!({
        "destination": "/volume", "type": "bind", "source": volume, "options": ["bind"],
    });
    let script = "cat /volume/file; touch /seen; until test -e /go; do sleep 0.1; done; \
                  cat /volume/file || echo gone; echo on";
    let bundle = world.bundle().shell(script).push("/mounts", mount);
    let running = bundle.start();
    wait_until("it has seen it", || bundle.file("/seen").exists());
    fs::remove_dir_all(&volume).unwrap();
    fs::write(bundle.file("/go"), "").unwrap();
    let outcome = running.wait().expect_code(0);
    assert_eq!(outcome.stdout, "contentgone\non\n");
}

#[test]
fn less_memory_than_in_use_does_not_hang() {
    let world = World::new();
    let script = "head -c 60000000 /dev/zero >/dev/shm/full; touch /full; sleep 1000";
    let bundle = world.bundle().shell(script);
    let mounts = json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm" });
    let bundle = bundle.push("/mounts", mounts);
    bundle.create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    wait_until("memory is used", || bundle.file("/full").exists());
    // The kernel finds nothing to reclaim, and kills.
    let update = world.run(["update", "--memory", "8M", "c1"]);
    assert!(update.code <= 1, "{update:?}");
    wait_until("it stopped", || world.state("c1")["status"] == "stopped");
    assert_eq!(world.state("c1")["exit"]["code"], 137);
    let _ = world.run(["delete", "c1"]).expect_code(0);
}
