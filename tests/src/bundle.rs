//! Bundles with a small busybox root file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::outcome::{Outcome, Running};
use crate::world::{World, quoted};

/// Where a bundle's root file system has the test's own program.
pub const PROBE: &str = "/bin/probe";

/// An OCI bundle under construction; `config.json` is written when it runs.
#[derive(Debug)]
pub struct Bundle<'w> {
    world: &'w World,
    path: PathBuf,
    /// The configuration, to be edited at will.
    pub config: Value,
}

impl<'w> Bundle<'w> {
    pub(crate) fn new(world: &'w World, path: PathBuf) -> Self {
        make_rootfs(&path.join("rootfs"));
        let _ = world
            .run(["spec".as_ref(), "--bundle".as_ref(), path.as_os_str()])
            .expect_code(0);
        let text = fs::read(path.join("config.json")).expect("spec writes config.json");
        let mut config: Value = serde_json::from_slice(&text).expect("spec writes JSON");
        config["process"]["terminal"] = json!(false);
        config["root"]["readonly"] = json!(false);
        Self {
            world,
            path,
            config,
        }
    }

    /// The bundle's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in the root file system, as the host sees it.
    pub fn file(&self, path: &str) -> PathBuf {
        self.path.join("rootfs").join(path.trim_start_matches('/'))
    }

    /// Sets the container's command.
    #[must_use]
    pub fn command(mut self, arguments: &[&str]) -> Self {
        self.config["process"]["args"] = json!(arguments);
        self
    }

    /// Sets the container's command to a shell script.
    #[must_use]
    pub fn shell(self, script: &str) -> Self {
        self.command(&["/bin/sh", "-c", script])
    }

    /// Sets a value by its JSON pointer, whose parent must exist.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a JSON pointer");
        let parent = self.config.pointer_mut(parent).expect("the parent exists");
        parent[key] = value;
        self
    }

    /// Adds an element to an array, named by its JSON pointer.
    ///
    /// # Panics
    /// If there is no such array.
    #[must_use]
    pub fn push(mut self, pointer: &str, value: Value) -> Self {
        let array = self
            .config
            .pointer_mut(pointer)
            .and_then(Value::as_array_mut);
        array.expect("the array exists").push(value);
        self
    }

    /// Writes `config.json`.
    ///
    /// # Panics
    /// If it cannot.
    pub fn write(&self) {
        let text = serde_json::to_vec_pretty(&self.config).expect("JSON");
        fs::write(self.path.join("config.json"), text).expect("a writable bundle");
    }

    /// `bulkhead VERB --bundle … ARGUMENTS`.
    pub fn verb(&self, verb: &str, arguments: &[&str]) -> Command {
        self.write();
        let mut command = self.world.bulkhead([verb, "--bundle"]);
        command.arg(&self.path).args(arguments);
        command
    }

    /// The same, as words for a shell.
    pub fn line(&self, verb: &str, arguments: &[&str]) -> String {
        quoted(&self.verb(verb, arguments))
    }

    /// Runs the container in the foreground, in a mount namespace of its own that
    /// a shell command has made different from the host's.
    pub fn run_after(&self, preparation: &str) -> Outcome {
        let line = self.line("run", &["test"]);
        self.world
            .run_in_mount_namespace(&format!("{preparation} && exec {line}"))
    }

    /// Runs the container in the foreground to its end.
    pub fn run(&self) -> Outcome {
        Outcome::of(&mut self.verb("run", &["test"]))
    }

    /// Runs the container in the foreground, with a pipe as its input.
    pub fn start(&self) -> Running {
        Running::start(self.verb("run", &["test"]).stdin(Stdio::piped()))
    }

    /// Creates the container `id`; `start` is up to the caller.
    ///
    /// # Panics
    /// If that fails.
    pub fn create(&self, id: &str) {
        // Not pipes: the container holds its standard streams as long as it lives.
        let status = self
            .verb("create", &[id])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .expect("bulkhead can be started");
        assert!(status.success(), "create: {status}");
    }
}

/// A root file system with busybox and our own program.
pub(crate) fn make_rootfs(rootfs: &Path) {
    make_busybox_rootfs(rootfs);
    install_probe(&rootfs.join(PROBE.trim_start_matches('/')));
}

/// A root file system with busybox alone.
pub(crate) fn make_busybox_rootfs(rootfs: &Path) {
    for directory in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        fs::create_dir_all(rootfs.join(directory)).expect("a writable directory");
    }
    let busybox = rootfs.join("bin/busybox");
    fs::copy("/bin/busybox", &busybox).expect("busybox-static is installed");
    let status = Command::new(&busybox)
        .args(["--install", "-s"])
        .arg(rootfs.join("bin"))
        .status()
        .expect("busybox runs");
    assert!(status.success(), "busybox --install: {status}");
    fix_links(&rootfs.join("bin"));
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").expect("writable");
}

/// busybox links its applets to the path it was run by.
fn fix_links(bin: &Path) {
    for entry in fs::read_dir(bin).expect("just made").flatten() {
        if entry.file_type().is_ok_and(|t| t.is_symlink()) {
            fs::remove_file(entry.path()).expect("ours");
            std::os::unix::fs::symlink("busybox", entry.path()).expect("ours");
        }
    }
}

/// Puts the test's own guest program at `path`.
///
/// # Panics
/// If it was not built.
pub(crate) fn install_probe(path: &Path) {
    // Cargo puts the package's binaries one directory above its tests.
    let test = std::env::current_exe().expect("a path of our own");
    let probe = test
        .parent()
        .and_then(Path::parent)
        .expect("below target")
        .join("probe");
    fs::copy(&probe, path).unwrap_or_else(|e| panic!("cannot copy {}: {e}", probe.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("ours");
}
