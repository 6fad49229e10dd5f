//! The part of the hierarchy in which containers have their cgroups.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, mkdir};
use rustix::process::Pid;

use super::{Cgroup, CgroupError, DIRECTORY, open_beneath, read_file, write_file};
use crate::plan::{Controllers, USUAL_CONTROLLERS};

/// The hierarchy.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    path: PathBuf,
    directory: OwnedFd,
}

impl Hierarchy {
    /// Opens the part of the hierarchy at `path`, and hands the usual
    /// controllers on to the cgroups that will be made in it.
    pub(crate) fn open(path: PathBuf) -> Result<Self, CgroupError> {
        match rustix::fs::open(&path, DIRECTORY, Mode::empty()) {
            Ok(directory) => {
                let hierarchy = Self { path, directory };
                hierarchy.delegate(USUAL_CONTROLLERS);
                Ok(hierarchy)
            }
            Err(error) => Err(CgroupError::Cgroup {
                action: "open",
                path,
                source: error.into(),
            }),
        }
    }

    /// Makes a cgroup.
    pub(crate) fn create(
        &self,
        name: &str,
        controllers: &Controllers,
    ) -> Result<Cgroup, CgroupError> {
        self.delegate_further(controllers);
        let path = self.path.join(name);
        let create = || {
            mkdir(&path, Mode::from_raw_mode(0o755))?;
            rustix::fs::open(&path, DIRECTORY, Mode::empty())
        };
        match create() {
            Ok(directory) => Ok(Cgroup {
                path,
                directory,
                events: None,
            }),
            Err(error) => Err(CgroupError::Cgroup {
                action: "make",
                path,
                source: error.into(),
            }),
        }
    }

    /// Opens the cgroup that a process is in now. A container that manages its
    /// own cgroups (systemd, a nested engine) moves its init further down, and
    /// the kernel takes no processes into a cgroup that has both.
    pub(crate) fn of_process(&self, pid: Pid) -> io::Result<OwnedFd> {
        let text = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_pid()))?;
        let path = path_in_proc(&text).ok_or(io::ErrorKind::NotFound)?;
        let below = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
        let relative = below
            .strip_prefix(&self.path)
            .map_err(|_| io::ErrorKind::NotFound)?;
        Ok(open_beneath(self.directory.as_fd(), relative)?)
    }

    fn delegate_further(&self, controllers: &Controllers) {
        match controllers {
            Controllers::Named(names) => self.delegate(names.iter().map(String::as_str)),
            Controllers::All => {
                let all = read_file(self.directory.as_fd(), "cgroup.controllers");
                self.delegate(all.unwrap_or_default().split_whitespace());
            }
        }
    }

    /// Hands controllers on to the cgroups in the hierarchy. In one write, as
    /// each one waits for all processors; one by one if the kernel lacks some.
    /// What fails is told by the limit that cannot be set then.
    fn delegate<'a>(&self, controllers: impl IntoIterator<Item = &'a str>) {
        let changes = controllers.into_iter().map(|name| format!("+{name}"));
        let changes: Vec<_> = changes.collect();
        let write =
            |change: &str| write_file(self.directory.as_fd(), "cgroup.subtree_control", change);
        if changes.is_empty() || write(&changes.join(" ")).is_ok() {
            return;
        }
        for change in changes {
            let _ = write(&change);
        }
    }
}

/// The path in the unified hierarchy, a line `0::/path`.
fn path_in_proc(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unified_path_is_found_among_others() {
        let text = "12:cpu,cpuacct:/a\n0::/container/init.scope\n";
        assert_eq!(path_in_proc(text), Some("/container/init.scope"));
        assert_eq!(path_in_proc("1:name=systemd:/x\n"), None);
    }
}
