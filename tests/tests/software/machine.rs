//! Containers with Debian's software.

use std::fs;
use std::path::PathBuf;

use bulkhead_tests::{Bundle, World, wait_until};
use serde_json::{Value, json};

/// The container's id.
const ID: &str = "c1";

/// How often to ask whether a server is up, every few seconds.
const ATTEMPTS: u32 = 80;

const PATH: &str = "PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What container engines give to root by default.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A container that may be started again and again: what it changes in its root file
/// system lies on top of the software's, and stays.
#[derive(Debug)]
pub(crate) struct Machine<'w> {
    world: &'w World,
    bundle: Bundle<'w>,
}

impl<'w> Machine<'w> {
    /// One whose command is a shell script that `user` runs.
    pub(crate) fn new(world: &'w World, user: &str, script: &str) -> Self {
        for directory in ["root", "changes", "work"] {
            fs::create_dir(world.path().join(directory)).expect("a fresh world");
        }
        let bundle = world
            .bundle()
            .shell(script)
            .set("/root/path", json!(world.path().join("root")))
            .set("/annotations", json!({ "dev.bulkhead.memory-mib": "512" }))
            .set("/process/env", json!([PATH, "LANG=C.UTF-8", "HOME=/tmp"]))
            .set("/process/user", ids_of(user))
            .set("/process/rlimits", json!([]));
        let machine = Self { world, bundle };
        machine.with_capabilities(&CAPABILITIES)
    }

    /// Has its processes start with these capabilities, if they are root's.
    pub(crate) fn with_capabilities(self, capabilities: &[&str]) -> Self {
        let sets = ["bounding", "effective", "permitted"];
        sets.iter().fold(self, |machine, set| {
            machine.set(&format!("/process/capabilities/{set}"), json!(capabilities))
        })
    }

    /// Sets a value of its configuration by its JSON pointer.
    pub(crate) fn set(self, pointer: &str, value: Value) -> Self {
        Self {
            bundle: self.bundle.set(pointer, value),
            ..self
        }
    }

    /// Adds an element to an array of its configuration.
    pub(crate) fn push(self, pointer: &str, value: Value) -> Self {
        Self {
            bundle: self.bundle.push(pointer, value),
            ..self
        }
    }

    /// Mounts the file system at `destination` for writing.
    pub(crate) fn with_writable(mut self, destination: &str) -> Self {
        let mounts = self.bundle.config["mounts"].as_array_mut();
        let mut mounts = mounts.expect("an array").iter_mut();
        let mount = mounts.find(|mount| mount["destination"] == destination);
        let options = &mut mount.expect("it is mounted")["options"];
        let options = options.as_array_mut().expect("an array");
        options.retain(|option| option != "ro");
        self
    }

    /// Starts it; what it prints goes to its log.
    pub(crate) fn start(&self) {
        let directory = self.world.path().display();
        let mount = format!(
            "mount -t overlay -o lowerdir={},upperdir={directory}/changes,workdir={directory}/work \
             overlay {directory}/root",
            software().display()
        );
        let create = self.bundle.line("create", &[ID]);
        let log = self.log_file();
        let script = format!(
            "{mount} && exec {create} </dev/null >>{} 2>&1",
            log.display()
        );
        let outcome = self.world.run_in_mount_namespace(&script);
        assert_eq!(outcome.code, 0, "{outcome:#?}\n{}", self.log());
        let _ = self.world.run(["start", ID]).expect_code(0);
    }

    /// What it has printed, since it was started first.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.world.path().join("log")
    }

    /// Runs a shell script in it, which must succeed, and gives what it prints.
    pub(crate) fn run(&self, script: &str) -> String {
        let outcome = self.world.run(["exec", ID, "sh", "-c", script]);
        assert_eq!(outcome.code, 0, "{script}: {outcome:#?}\n{}", self.log());
        outcome.stdout.trim_end().to_owned()
    }

    /// Waits until a command succeeds in it.
    pub(crate) fn wait_for(&self, command: &str) {
        // Within the container: to ask from outside, again and again, would hold it up.
        self.run(&format!(
            "for _ in $(seq {ATTEMPTS}); do {command} && exit; sleep 3; done 2>&1; exit 1"
        ));
    }

    /// Sends it a signal, and forgets it when it has stopped.
    pub(crate) fn end(&self, signal: &str) {
        let _ = self.world.run(["kill", ID, signal]).expect_code(0);
        self.wait_for_end();
    }

    /// Kills its microVM, as a crash of the host's would.
    pub(crate) fn crash(&self) {
        for vmm in self.world.processes("vmm") {
            let pid = rustix::process::Pid::from_raw(vmm).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
        }
        self.wait_for_end();
    }

    fn wait_for_end(&self) {
        wait_until("it stopped", || self.world.state(ID)["status"] == "stopped");
        let _ = self.world.run(["delete", ID]).expect_code(0);
    }
}

/// The root file system that has the software.
fn software() -> PathBuf {
    std::env::var_os("BULKHEAD_TEST_SOFTWARE")
        .map(PathBuf::from)
        .expect("no software to test: run `cargo xtask test --all`")
}

/// A user of the software's, as `process.user`.
fn ids_of(user: &str) -> Value {
    let users = fs::read_to_string(software().join("etc/passwd")).expect("Debian's users");
    let mut entries = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let entry = entries.find(|entry| entry[0] == user).expect("the user");
    let id = |field: usize| entry[field].parse::<u32>().expect("a number");
    json!({ "uid": id(2), "gid": id(3) })
}
