//! A state directory of its own, and everything that must be gone at the end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::bundle::Bundle;
use crate::leftovers::{self, Snapshot, TAG};
use crate::outcome::Outcome;

/// An installation's state directory, private to one test.
#[derive(Debug)]
pub struct World {
    directory: TempDir,
    tag: String,
    before: Snapshot,
    bundles: AtomicU32,
}

impl World {
    /// An empty one.
    ///
    /// # Panics
    /// If there is no build to test, or no temporary directory to be had.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let binary = binary();
        assert!(
            binary.is_file(),
            "{} is missing: run `cargo xtask build`",
            binary.display()
        );
        let directory = tempfile::Builder::new()
            .prefix("bh")
            .tempdir()
            .expect("a directory");
        let tag = directory.path().display().to_string();
        Self {
            directory,
            tag,
            before: Snapshot::take(),
            bundles: AtomicU32::new(0),
        }
    }

    /// Where this world keeps its files.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The state directory, as given to `--root`.
    pub fn state_root(&self) -> PathBuf {
        self.path().join("state")
    }

    /// A new bundle with a small busybox root file system.
    pub fn bundle(&self) -> Bundle<'_> {
        let n = self.bundles.fetch_add(1, Ordering::Relaxed);
        Bundle::new(self, self.path().join(format!("bundle{n}")))
    }

    /// A `bulkhead` command in this world, ready for its verb.
    pub fn bulkhead<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(binary());
        command
            .arg("--root")
            .arg(self.state_root())
            .args(arguments)
            .env(TAG, &self.tag);
        command
    }

    /// The same for a verb that keeps no containers of its own in the state
    /// directory.
    pub fn bulkhead_alone<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).env(TAG, &self.tag);
        command
    }

    /// Runs a `bulkhead` command to its end, with nothing on its input.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Outcome {
        Outcome::of(&mut self.bulkhead(arguments))
    }

    /// The same, as words for a shell.
    pub fn line<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        quoted(&self.bulkhead(arguments))
    }

    /// Runs a shell script in a mount namespace of its own.
    pub fn run_in_mount_namespace(&self, script: &str) -> Outcome {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script])
            .env(TAG, &self.tag);
        Outcome::of(&mut command)
    }

    /// Marks a command, and so all that it starts, as this world's.
    pub(crate) fn tagged<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env(TAG, &self.tag)
    }

    /// Runs a shell script on a terminal of its own.
    pub fn run_on_terminal(&self, script: &str) -> Outcome {
        let mut command = Command::new("script");
        command
            .args(["-qefc", script, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env(TAG, &self.tag);
        Outcome::of(&mut command)
    }

    /// The `state` of a container, as JSON.
    ///
    /// # Panics
    /// If the command fails or prints something else.
    pub fn state(&self, id: &str) -> serde_json::Value {
        let outcome = self.run(["state", id]).expect_code(0);
        serde_json::from_str(&outcome.stdout).expect("state prints JSON")
    }

    /// Pids of this world's processes whose command line has `word` as its
    /// first argument: `vmm`, `fsd`, `monitor`, `run`.
    pub fn processes(&self, word: &str) -> Vec<i32> {
        leftovers::processes(&self.tag)
            .into_iter()
            .filter(|p| p.command_line.iter().any(|argument| argument == word))
            .map(|p| p.pid)
            .collect()
    }

    /// The pids of the only sandbox: monitor, VMM and file server, in ascending order.
    ///
    /// # Panics
    /// If there is not one of each.
    pub fn sandbox(&self) -> Vec<i32> {
        let verbs = ["monitor", "vmm", "fsd"].iter();
        let mut pids: Vec<_> = verbs.flat_map(|verb| self.processes(verb)).collect();
        assert_eq!(pids.len(), 3, "monitor, VMM and file server: {pids:?}");
        pids.sort_unstable();
        pids
    }

    /// Fails the test if anything of this world is still there.
    ///
    /// # Panics
    /// That is what it is for.
    pub fn assert_nothing_left(&self) {
        leftovers::assert_none(&self.tag, &self.state_root(), &self.before);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            leftovers::kill_all(&self.tag);
        } else {
            self.assert_nothing_left();
        }
    }
}

/// The command as words for a shell. None of our paths holds a quote.
pub(crate) fn quoted(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().expect("UTF-8")))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    artifacts().join("bulkhead")
}

/// The directory with the build's results.
pub fn artifacts() -> PathBuf {
    std::env::var_os("BULKHEAD_DIST").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dist"),
        PathBuf::from,
    )
}
