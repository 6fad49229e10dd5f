//! A container's cgroup, in the unified hierarchy.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, mkdir, openat2, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::plan::CgroupWrite;
use crate::sys;

/// A directory to open processes into.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Deepest tree of cgroups below a container's that is walked.
const MAX_DEPTH: usize = 64;

/// Why a cgroup cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error("cannot {action} cgroup {}", path.display())]
    Cgroup {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot write '{value}' to {file}")]
    Write {
        file: String,
        value: String,
        source: io::Error,
    },
    #[error("cannot install the device filter")]
    DeviceFilter(#[source] io::Error),
}

/// The hierarchy.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    path: PathBuf,
    directory: OwnedFd,
}

impl Hierarchy {
    /// Opens the part of the hierarchy at `path`, and hands all its controllers
    /// on to the cgroups that will be made in it.
    pub(crate) fn open(path: PathBuf) -> Result<Self, CgroupError> {
        let open = || -> io::Result<OwnedFd> {
            let directory = rustix::fs::open(&path, DIRECTORY, Mode::empty())?;
            delegate_controllers(directory.as_fd())?;
            Ok(directory)
        };
        match open() {
            Ok(directory) => Ok(Self { path, directory }),
            Err(source) => Err(CgroupError::Cgroup {
                action: "open",
                path,
                source,
            }),
        }
    }

    /// Makes a cgroup.
    pub(crate) fn create(&self, name: &str) -> Result<Cgroup, CgroupError> {
        let path = self.path.join(name);
        let create = || {
            mkdir(&path, Mode::from_raw_mode(0o755))?;
            rustix::fs::open(&path, DIRECTORY, Mode::empty())
        };
        match create() {
            Ok(directory) => Ok(Cgroup { path, directory }),
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
}

/// Hands a cgroup's controllers on to those below it. In one write, as each
/// one waits for all processors; one by one if some cannot be handed on.
fn delegate_controllers(directory: BorrowedFd<'_>) -> io::Result<()> {
    let delegate = |change: &str| write_file(directory, "cgroup.subtree_control", change);
    let controllers = read_file(directory, "cgroup.controllers")?;
    let changes: Vec<_> = controllers
        .split_whitespace()
        .map(|name| format!("+{name}"))
        .collect();
    if changes.is_empty() || delegate(&changes.join(" ")).is_ok() {
        return Ok(());
    }
    for change in changes {
        let _ = delegate(&change);
    }
    Ok(())
}

/// The path in the unified hierarchy, a line `0::/path`.
fn path_in_proc(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

fn open_beneath(directory: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    openat2(directory, path, DIRECTORY, Mode::empty(), beneath)
}

/// A container's cgroup. It may have made others below.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
}

impl Cgroup {
    /// Sets limits and installs the device filter.
    pub(crate) fn configure(
        &self,
        writes: &[CgroupWrite],
        device_filter: &[u64],
    ) -> Result<(), CgroupError> {
        for CgroupWrite {
            file,
            value,
            best_effort,
        } in writes
        {
            match write_file(self.as_fd(), file, value) {
                Err(source) if !best_effort => {
                    let (file, value) = (file.clone(), value.clone());
                    return Err(CgroupError::Write {
                        file,
                        value,
                        source,
                    });
                }
                _ => {}
            }
        }
        sys::attach_device_filter(self.as_fd(), device_filter).map_err(CgroupError::DeviceFilter)
    }

    /// Kills all processes in it and below.
    pub(crate) fn kill(&self) -> io::Result<()> {
        write_file(self.as_fd(), "cgroup.kill", "1")
    }

    /// Sends a signal to all processes in it and below.
    pub(crate) fn signal(&self, signal: u8) -> io::Result<()> {
        if i32::from(signal) == libc::SIGKILL {
            return self.kill();
        }
        let handles: Vec<_> = self
            .processes()
            .into_iter()
            .filter_map(|pid| {
                let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty());
                Some((pid, handle.ok()?))
            })
            .collect();
        // An id may have been used again between the two: a handle counts only
        // if its process is in the cgroup after it was opened.
        let still_here = self.processes();
        for (_, handle) in handles.iter().filter(|(pid, _)| still_here.contains(pid)) {
            match sys::send_signal(handle.as_fd(), signal) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes it and all below; fails with `EBUSY` while there are processes.
    pub(crate) fn remove(&self) -> Result<(), CgroupError> {
        remove_below(self.as_fd(), MAX_DEPTH)
            .and_then(|()| match rustix::fs::rmdir(&self.path) {
                Err(Errno::NOENT) => Ok(()),
                other => other,
            })
            .map_err(|error| CgroupError::Cgroup {
                action: "remove",
                path: self.path.clone(),
                source: error.into(),
            })
    }

    /// Ids of all processes, as the agent knows them.
    fn processes(&self) -> BTreeSet<i32> {
        let mut pids = BTreeSet::new();
        collect_processes(self.as_fd(), MAX_DEPTH, &mut pids);
        pids
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn collect_processes(directory: BorrowedFd<'_>, depth: usize, pids: &mut BTreeSet<i32>) {
    let text = read_file(directory, "cgroup.procs").unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    if depth > 0 {
        for child in children(directory) {
            if let Ok(child) = open_beneath(directory, &child) {
                collect_processes(child.as_fd(), depth - 1, pids);
            }
        }
    }
}

fn remove_below(directory: BorrowedFd<'_>, depth: usize) -> rustix::io::Result<()> {
    for name in children(directory) {
        if depth > 0
            && let Ok(child) = open_beneath(directory, &name)
        {
            remove_below(child.as_fd(), depth - 1)?;
        }
        match unlinkat(directory, &name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Names of the cgroups directly below.
fn children(directory: BorrowedFd<'_>) -> Vec<PathBuf> {
    let is_directory = |entry: &rustix::fs::DirEntry| entry.file_type() == FileType::Directory;
    let name = |entry: rustix::fs::DirEntry| {
        let name = entry.file_name().to_str().ok()?;
        (name != "." && name != "..").then(|| PathBuf::from(name))
    };
    let Ok(entries) = Dir::read_from(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(is_directory)
        .filter_map(name)
        .collect()
}

fn read_file(directory: BorrowedFd<'_>, name: &str) -> io::Result<String> {
    let mut text = String::new();
    open_file(directory, name, OFlags::RDONLY)?.read_to_string(&mut text)?;
    Ok(text)
}

fn write_file(directory: BorrowedFd<'_>, name: &str, value: &str) -> io::Result<()> {
    // One write: each one is a command to the kernel.
    rustix::io::write(
        open_file(directory, name, OFlags::WRONLY)?,
        value.as_bytes(),
    )?;
    Ok(())
}

fn open_file(directory: BorrowedFd<'_>, name: &str, flags: OFlags) -> io::Result<File> {
    let opened = rustix::fs::openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty())?;
    Ok(opened.into())
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
