//! A container's cgroup, in the unified hierarchy.

mod hierarchy;
mod tree;
mod usage;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_protocol::Usage;
use rustix::event::epoll::EventFlags;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Uid, chownat, fchown, openat2};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::event::{Poller, Token};
use crate::plan::{CgroupPlan, CgroupWrite};
use crate::sys;
pub(crate) use hierarchy::Hierarchy;

/// A directory to open processes into.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Where the kernel names the files that a cgroup's owner writes to.
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";

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

/// A container's cgroup. It may have made others below.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
    /// Its `cgroup.events`, once the event loop watches it.
    events: Option<File>,
}

impl Cgroup {
    /// Sets limits, installs the device filter, and hands it to its owner.
    pub(crate) fn configure(&self, plan: &CgroupPlan) -> Result<(), CgroupError> {
        self.limit(&plan.writes)?;
        sys::attach_device_filter(self.as_fd(), &plan.device_filter)
            .map_err(CgroupError::DeviceFilter)?;
        plan.owner.map_or(Ok(()), |owner| {
            self.give_to(owner)
                .map_err(|source| self.error("hand over", source))
        })
    }

    /// Sets limits.
    pub(crate) fn limit(&self, limits: &[CgroupWrite]) -> Result<(), CgroupError> {
        for CgroupWrite {
            file,
            value,
            best_effort,
        } in limits
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
        Ok(())
    }

    /// Has the kernel stop all processes in it and below, or let them go on; when
    /// it has done so, `cgroup.events` changes.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<(), CgroupError> {
        write_file(
            self.as_fd(),
            "cgroup.freeze",
            if frozen { "1" } else { "0" },
        )
        .map_err(|source| self.error(if frozen { "freeze" } else { "thaw" }, source))
    }

    /// Whether all processes in it and below stand still.
    pub(crate) fn is_frozen(&self) -> bool {
        let events = read_file(self.as_fd(), "cgroup.events").unwrap_or_default();
        events.lines().any(|line| line == "frozen 1")
    }

    /// Opens one that the container has made in it.
    pub(crate) fn open_below(&self, path: &Path) -> io::Result<OwnedFd> {
        Ok(open_beneath(self.as_fd(), path)?)
    }

    /// What it has used.
    pub(crate) fn usage(&self) -> Usage {
        usage::read(self.as_fd())
    }

    /// Ids of all processes in it and below.
    pub(crate) fn processes(&self) -> BTreeSet<i32> {
        tree::processes(self.as_fd())
    }

    fn give_to(&self, owner: Uid) -> io::Result<()> {
        for file in std::fs::read_to_string(DELEGATE)?.lines() {
            match chownat(self, file, Some(owner), None, AtFlags::SYMLINK_NOFOLLOW) {
                // Of a controller that this cgroup lacks.
                Err(Errno::NOENT) => {}
                other => other?,
            }
        }
        Ok(fchown(self, Some(owner), None)?)
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
        let handles: Vec<_> = tree::processes(self.as_fd())
            .into_iter()
            .filter_map(|pid| {
                let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty());
                Some((pid, handle.ok()?))
            })
            .collect();
        // An id may have been used again between the two: a handle counts only
        // if its process is in the cgroup after it was opened.
        let still_here = tree::processes(self.as_fd());
        for (_, handle) in handles.iter().filter(|(pid, _)| still_here.contains(pid)) {
            match sys::send_signal(handle.as_fd(), signal) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes it and all below. Returns false if there are still processes.
    pub(crate) fn remove(&self) -> Result<bool, CgroupError> {
        let remove = || match rustix::fs::rmdir(&self.path) {
            Err(Errno::BUSY) => {
                tree::remove_below(self.as_fd())?;
                rustix::fs::rmdir(&self.path)
            }
            other => other,
        };
        match remove() {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::BUSY) => Ok(false),
            Err(error) => Err(self.error("remove", error.into())),
        }
    }

    /// Has the event loop told when the last process in it and below ends.
    pub(crate) fn watch(&mut self, poller: &Poller) -> Result<(), CgroupError> {
        if self.events.is_some() {
            return Ok(());
        }
        let watch = || {
            let events = open_file(self.as_fd(), "cgroup.events", OFlags::RDONLY)?;
            // By edges, each change is told once, whether or not it is looked at.
            let interest = EventFlags::PRI | EventFlags::ET;
            poller.add(events.as_fd(), Token::Cgroups, interest)?;
            Ok(events)
        };
        self.events = Some(watch().map_err(|source| self.error("watch", source))?);
        Ok(())
    }

    fn error(&self, action: &'static str, source: io::Error) -> CgroupError {
        CgroupError::Cgroup {
            action,
            path: self.path.clone(),
            source,
        }
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Opens a cgroup in another, or that itself if the path is empty. The names in it are
/// the container's to choose.
fn open_beneath(directory: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    openat2(directory, path, DIRECTORY, Mode::empty(), beneath)
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
