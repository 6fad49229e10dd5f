//! What the global options come to.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::{CgroupManager, GlobalArgs};
use crate::clock::Moment;
use crate::error::Error;
use crate::host_cgroup::Driver;
use crate::id::ContainerId;
use crate::sandbox::SandboxDir;
use crate::stdio;
use crate::store::Store;

/// What each command goes by.
#[derive(Debug)]
pub(crate) struct Context {
    /// The containers.
    pub(crate) store: Store,
    /// When the command began.
    pub(crate) started: Moment,
    root: PathBuf,
    global: GlobalArgs,
}

impl Context {
    /// Resolves the global options.
    pub(crate) fn new(global: GlobalArgs, started: Moment) -> Result<Self, Error> {
        let root = global.root.clone().unwrap_or_else(default_root);
        let root = absolute(&root)?;
        Ok(Self {
            store: Store::new(root.clone()),
            started,
            root,
            global,
        })
    }

    /// Opens the directory of a running container's sandbox.
    pub(crate) fn sandbox_dir(&self, id: &ContainerId) -> Result<SandboxDir, Error> {
        Ok(SandboxDir::open(&self.store.sandbox_dir(id))?)
    }

    /// Who makes cgroups on this host, if containers get any.
    pub(crate) fn cgroup_driver(&self) -> Option<Driver> {
        if self.global.cgroup_manager == Some(CgroupManager::Disabled) {
            None
        } else if self.global.systemd_cgroup
            || self.global.cgroup_manager == Some(CgroupManager::Systemd)
        {
            Some(Driver::Systemd)
        } else {
            Some(Driver::Cgroupfs)
        }
    }

    /// Parts with standard error, unless it is all that messages have: it is
    /// the container's, which may close it long before it ends. With a terminal it
    /// is nobody's.
    pub(crate) fn leave_stderr(&self, has_terminal: bool) -> io::Result<()> {
        if self.global.log.is_some() || has_terminal {
            stdio::give_up_stderr()?;
        }
        Ok(())
    }

    /// Gives another process of this program the same global options.
    pub(crate) fn pass_on(&self, command: &mut Command) -> Result<(), Error> {
        command.arg("--root").arg(&self.root);
        if let Some(log) = &self.global.log {
            command.arg("--log").arg(absolute(log)?);
        }
        if self.global.log_format == crate::logging::Format::Json {
            command.args(["--log-format", "json"]);
        }
        match self.cgroup_driver() {
            None => command.args(["--cgroup-manager", "disabled"]),
            Some(Driver::Systemd) => command.arg("--systemd-cgroup"),
            Some(Driver::Cgroupfs) => command,
        };
        if self.global.debug {
            command.arg("--debug");
        }
        Ok(())
    }
}

/// A path that means the same in another working directory.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(Error::io("resolve", path))
}

/// Whether this process has no power over the host but what its user has.
pub(crate) fn is_rootless() -> bool {
    let maps_all = |map: String| {
        let mut fields = map.split_ascii_whitespace();
        fields.next() == Some("0") && fields.next() == Some("0")
    };
    let in_first_user_namespace = fs::read_to_string("/proc/self/uid_map").is_ok_and(maps_all);
    !rustix::process::geteuid().is_root() || !in_first_user_namespace
}

fn default_root() -> PathBuf {
    if !is_rootless() {
        return "/run/bulkhead".into();
    }
    let runtime_dir = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    runtime_dir.unwrap_or_else(env::temp_dir).join("bulkhead")
}
