//! The verbs of an OCI runtime.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use bulkhead_tests::{DescriptorSocket, Outcome, World, artifacts, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

#[test]
fn created_running_stopped_deleted() {
    let world = World::new();
    let bundle = world.bundle().shell("touch /ran; exec sleep 1000");
    bundle.create("c1");
    assert_eq!(world.state("c1")["status"], "created");
    assert!(!bundle.file("/ran").exists(), "nothing runs before start");

    let _ = world.run(["start", "c1"]).expect_code(0);
    let state = world.state("c1");
    assert_eq!(
        (&state["status"], &state["id"]),
        (&json!("running"), &json!("c1"))
    );
    assert_eq!(state["bundle"], json!(bundle.path()));
    wait_until("the command ran", || bundle.file("/ran").exists());

    let _ = world
        .run(["delete", "c1"])
        .expect_code(1)
        .expect_message("running");
    let _ = world.run(["kill", "c1", "KILL"]).expect_code(0);
    wait_until("it stopped", || world.state("c1")["status"] == "stopped");
    let _ = world.run(["delete", "c1"]).expect_code(0);
    let _ = world
        .run(["state", "c1"])
        .expect_code(1)
        .expect_message("c1");
}

#[test]
fn pid_is_a_host_process_that_stands_for_the_container() {
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("trap 'exit 0' TERM; touch /up; while :; do sleep 0.1; done");
    let pid_file = world.path().join("pid");
    let status = bundle
        .verb("create", &["--pid-file", pid_file.to_str().unwrap(), "c1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let pid: i32 = fs::read_to_string(&pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_eq!(world.state("c1")["pid"], pid);
    let _ = world.run(["start", "c1"]).expect_code(0);
    wait_until("it is up", || bundle.file("/up").exists());
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    wait_until("it stopped", || world.state("c1")["status"] == "stopped");
    let _ = world.run(["delete", "c1"]).expect_code(0);
}

#[test]
fn pidfds_are_those_of_the_processes_that_pids_name() {
    let world = World::new();
    let socket = DescriptorSocket::listen(world.path().join("pidfds"));
    let option = ["--pidfd-socket", socket.path()];
    let bundle = world.bundle().command(&["/bin/sleep", "1000"]);
    let quiet = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        assert!(command.status().unwrap().success());
    };
    quiet(&mut bundle.verb("run", &[&option[..], &["--detach", "c1"]].concat()));
    let (pidfd, word) = socket.take();
    assert_eq!(word, "standard", "as runc says");
    assert_eq!(world.state("c1")["pid"], pid_of(&pidfd));
    quiet(
        world
            .bulkhead(["exec", "--detach"])
            .args(option)
            .args(["c1", "sleep", "999"]),
    );
    let (pidfd, word) = socket.take();
    assert_eq!(word, "setns");
    assert_eq!(world.processes("exec"), [pid_of(&pidfd)]);
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

/// As the kernel tells (`proc_pid_fdinfo(5)`).
fn pid_of(pidfd: &OwnedFd) -> i32 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    pid.unwrap().trim().parse().unwrap()
}

#[test]
fn run_detached_and_list() {
    let world = World::new();
    let bundle = world.bundle().command(&["/bin/sleep", "1000"]);
    let status = bundle
        .verb("run", &["--detach", "c1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let list = world.run(["list", "--format", "json"]).expect_code(0);
    let list: serde_json::Value = serde_json::from_str(&list.stdout).unwrap();
    assert_eq!(
        (&list[0]["id"], &list[0]["status"]),
        (&json!("c1"), &json!("running"))
    );
    assert_eq!(list[0]["owner"], "root");
    assert_eq!(world.run(["list", "--quiet"]).expect_code(0).stdout, "c1\n");
    let _ = world.run(["kill", "c1", "KILL"]).expect_code(0);
    wait_until("it stopped", || world.state("c1")["status"] == "stopped");
    // Nobody is left to signal: for `--all` that is no failure.
    let _ = world.run(["kill", "--all", "c1", "KILL"]).expect_code(0);
    let _ = world.run(["kill", "c1", "KILL"]).expect_code(1);
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn pid_file_that_cannot_be_written_fails_the_command() {
    let world = World::new();
    let pid_file = ["--pid-file", "/no/such/directory/pid"];
    for verb in [&["create"][..], &["run"], &["run", "--detach"]] {
        let arguments = [&verb[1..], &pid_file, &["c1"]].concat();
        let bundle = world.bundle().command(&["/bin/sleep", "1000"]);
        let _ = Outcome::of(&mut bundle.verb(verb[0], &arguments))
            .expect_code(1)
            .expect_message("pid file");
        let _ = world.run(["state", "c1"]).expect_code(1);
    }
}

#[test]
fn two_creates_of_one_id_at_once_make_one_container() {
    let world = World::new();
    let bundles = [
        world.bundle().shell("sleep 1000"),
        world.bundle().shell("sleep 1000"),
    ];
    let codes: Vec<_> = std::thread::scope(|scope| {
        let start = |bundle: &bulkhead_tests::Bundle<'_>| {
            bundle
                .verb("create", &["same"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()
                .unwrap()
                .success()
        };
        let threads: Vec<_> = bundles
            .iter()
            .map(|bundle| scope.spawn(move || start(bundle)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(codes.iter().filter(|ok| **ok).count(), 1, "{codes:?}");
    assert_eq!(world.state("same")["status"], "created");
    let _ = world.run(["delete", "--force", "same"]).expect_code(0);
}

#[test]
fn containers_are_strangers_to_each_other() {
    let world = World::new();
    for id in ["one", "two"] {
        let bundle = world.bundle().command(&["/bin/sleep", "1000"]);
        bundle.create(id);
        let _ = world.run(["start", id]).expect_code(0);
    }
    assert_eq!(world.processes("vmm").len(), 2);
    let _ = world.run(["delete", "--force", "one"]).expect_code(0);
    assert_eq!(world.state("two")["status"], "running");
    let _ = world.run(["exec", "two", "true"]).expect_code(0);
    let _ = world.run(["delete", "--force", "two"]).expect_code(0);
}

#[test]
fn engines_with_roots_of_their_own_may_use_the_same_id() {
    let (one, other) = (World::new(), World::new());
    for world in [&one, &other] {
        world
            .bundle()
            .command(&["/bin/sleep", "1000"])
            .create("same");
    }
    let _ = one.run(["delete", "--force", "same"]).expect_code(0);
    assert_eq!(other.state("same")["status"], "created");
    let _ = other.run(["delete", "--force", "same"]).expect_code(0);
}

#[test]
fn bundle_may_go_while_its_container_runs() {
    let world = World::new();
    let bundle = world.bundle().command(&["/bin/sleep", "1000"]);
    bundle.create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    fs::remove_dir_all(bundle.path()).unwrap();
    assert_eq!(world.state("c1")["status"], "running");
    let _ = world.run(["exec", "c1", "/bin/true"]).expect_code(127);
    let _ = world.run(["kill", "c1", "KILL"]).expect_code(0);
    wait_until("it stopped", || world.state("c1")["status"] == "stopped");
    let _ = world.run(["delete", "c1"]).expect_code(0);
}

#[test]
fn command_that_is_killed_while_it_creates_leaves_nothing() {
    let world = World::new();
    let bundle = world.bundle().command(&["/bin/sleep", "1000"]);
    let mut create = bundle.verb("create", &["c1"]).spawn().unwrap();
    wait_until("the guest boots", || !world.processes("vmm").is_empty());
    create.kill().unwrap();
    create.wait().unwrap();
    wait_until("all is gone", || world.processes("monitor").is_empty());
    bundle.create("c1");
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn users_other_than_root_are_root_in_their_containers() {
    let world = World::new();
    let bundle = world.bundle();
    let script = format!(
        "set -e; B={}; chmod 711 {}
         mkdir $B/dist; mount --bind {} $B/dist; BULKHEAD=$B/dist/bulkhead
         mknod -m 666 $B/kvm c 10 232; mount --bind $B/kvm /dev/kvm
         rm $B/config.json; chown 1999:1999 $B
         cd $B; exec setpriv --reuid 1999 --regid 1999 --clear-groups sh -ec '
             $1 spec --rootless; sed -i /terminal/s/true/false/ config.json
             echo \"id -u; id -g; uname -r\" | $1 --root state run c1
         ' sh $BULKHEAD",
        bundle.path().display(),
        world.path().display(),
        artifacts().display(),
    );
    let outcome = world.run_in_mount_namespace(&script).expect_code(0);
    assert!(outcome.stdout.starts_with("0\n0\n"), "{outcome:#?}");
    assert!(outcome.stdout.contains("bulkhead"), "{outcome:#?}");
}
