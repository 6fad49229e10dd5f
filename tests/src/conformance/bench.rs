//! Where a runtime is held against a case.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::command::Ended;
use super::container::Container;
use crate::leftovers::{self, TAG};

/// Where the host's control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// A runtime, by the name that results are told by.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// The name.
    pub name: String,
    /// The program.
    pub path: PathBuf,
}

impl FromStr for Runtime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text.split_once('=').ok_or("not of the form NAME=PATH")?;
        Ok(Self {
            name: name.into(),
            path: path.into(),
        })
    }
}

/// A runtime with a state directory that is one case's own. What the case has made
/// goes with it.
#[derive(Debug)]
pub(super) struct Bench<'r> {
    runtime: &'r Runtime,
    directory: TempDir,
    containers: Cell<u32>,
    mounts: RefCell<Vec<PathBuf>>,
}

impl<'r> Bench<'r> {
    pub(super) fn new(runtime: &'r Runtime) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("conf").tempdir();
        let directory = directory.context("create a directory")?;
        // Containers with other users' ids have to get at their root.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            runtime,
            directory,
            containers: Cell::new(0),
            mounts: RefCell::default(),
        })
    }

    /// A directory for the case's own files.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A container that is not created yet, with the default configuration.
    pub(super) fn container(&self) -> Container<'_> {
        let n = self.containers.replace(self.containers.get() + 1);
        let id = format!("{}-{n}", self.name());
        let bundle = self.path().join(format!("bundle{n}"));
        Container::new(self, id, bundle)
    }

    /// Runs the runtime with these arguments to its end.
    pub(super) fn run<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Ended> {
        Ended::of(&mut self.command(arguments))
    }

    /// The runtime with these arguments.
    pub(super) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(&self.runtime.path);
        command
            .arg("--root")
            .arg(self.path().join("state"))
            .args(arguments)
            .env(TAG, self.path());
        command
    }

    /// Runs a shell script on the host to its successful end.
    pub(super) fn on_host(&self, script: &str) -> Result<String> {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(self.path());
        Ended::of(&mut command)?.succeeds()?.stdout.text()
    }

    /// Mounts a tmpfs on a new directory.
    pub(super) fn mount_tmpfs(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        self.on_host(&format!("mount -t tmpfs tmpfs '{}'", directory.display()))?;
        self.mounts.borrow_mut().push(directory.into());
        Ok(())
    }

    /// The path of a control group for the case, as `linux.cgroupsPath` has it.
    pub(super) fn cgroup(&self) -> String {
        format!("/{}/container", self.name())
    }

    /// Where the host has that control group.
    pub(super) fn cgroup_directory(&self) -> PathBuf {
        Path::new(CGROUPS).join(self.name()).join("container")
    }

    fn name(&self) -> &str {
        let name = self.path().file_name().and_then(OsStr::to_str);
        name.unwrap_or("conf")
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        leftovers::kill_all(&self.path().display().to_string());
        for mount in self.mounts.borrow().iter() {
            // The directory is removed next, and would tell.
            let _ = self.on_host(&format!("umount -l '{}'", mount.display()));
        }
        if let Some(parent) = self.cgroup_directory().parent() {
            // Most cases have none.
            let _ = fs::remove_dir(parent);
        }
    }
}
