//! What the global options come to.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::GlobalArgs;
use crate::clock::Moment;
use crate::error::Error;
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

    /// Parts with standard error, unless it is all that messages have: it is
    /// the container's, which may close it long before it ends.
    pub(crate) fn leave_stderr(&self) -> io::Result<()> {
        if self.global.log.is_some() {
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

fn default_root() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/run/bulkhead".into();
    }
    let runtime_dir = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    runtime_dir.unwrap_or_else(env::temp_dir).join("bulkhead")
}
