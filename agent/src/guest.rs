//! The guest's own file systems and network interface.
//!
//! Most containers have their own of everything that is not in every guest from
//! the beginning. What the others share of the guest's is made for the first
//! of them.

use std::ffi::CStr;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, StatxAttributes, StatxFlags, mkdir, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use crate::plan::{ContainerPlan, MountKind};
use crate::sys;

/// Where the unified cgroup hierarchy is.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";

/// Why the guest lacks something that a container shares with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    #[error("cannot mount {fs_type} on {target}")]
    Mount {
        fs_type: &'static str,
        target: &'static str,
        source: io::Error,
    },
    #[error("cannot bring up the guest's loopback interface")]
    Loopback(#[source] io::Error),
}

/// One file system of the guest's own.
pub(crate) struct FileSystem {
    pub(crate) fs_type: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: &'static CStr,
}

const NOTHING_BUT_FILES: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// In order: some are mounted on directories of others.
pub(crate) const FILE_SYSTEMS: [FileSystem; 4] = [
    FileSystem {
        fs_type: "proc",
        target: "/proc",
        flags: NOTHING_BUT_FILES,
        options: c"",
    },
    FileSystem {
        fs_type: "sysfs",
        target: "/sys",
        flags: NOTHING_BUT_FILES,
        options: c"",
    },
    FileSystem {
        fs_type: "cgroup2",
        target: CGROUPS,
        flags: NOTHING_BUT_FILES,
        options: c"nsdelegate",
    },
    FileSystem {
        fs_type: "devtmpfs",
        target: "/dev",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: c"mode=755",
    },
];

/// Mounted when a container is given them, or the directory that they are in.
const ON_DEMAND: [FileSystem; 3] = [
    FileSystem {
        fs_type: "devpts",
        target: "/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: c"ptmxmode=0666,mode=0620,gid=5",
    },
    FileSystem {
        fs_type: "tmpfs",
        target: "/dev/shm",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        options: c"mode=1777",
    },
    FileSystem {
        fs_type: "mqueue",
        target: "/dev/mqueue",
        flags: NOTHING_BUT_FILES,
        options: c"",
    },
];

/// Makes what a container shares of the guest's own, if that is not there yet.
pub(crate) fn provide(plan: &ContainerPlan) -> Result<(), GuestError> {
    if plan.namespaces.shares_network() {
        sys::bring_up_loopback().map_err(GuestError::Loopback)?;
    }
    for file_system in &ON_DEMAND {
        if is_bound(Path::new(file_system.target), plan) && !file_system.is_mounted() {
            file_system.mount()?;
        }
    }
    Ok(())
}

fn is_bound(path: &Path, plan: &ContainerPlan) -> bool {
    plan.mounts.iter().any(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => source.starts_with(path) || path.starts_with(source),
        MountKind::FileSystem { .. } => false,
    })
}

impl FileSystem {
    pub(crate) fn mount(&self) -> Result<(), GuestError> {
        let mount = || {
            mount(
                self.fs_type,
                self.target,
                self.fs_type,
                self.flags,
                self.options,
            )
        };
        match make_directory(self.target).and_then(|()| mount()) {
            // Busy: the kernel has mounted it already (CONFIG_DEVTMPFS_MOUNT).
            Ok(()) | Err(Errno::BUSY) => Ok(()),
            Err(error) => Err(GuestError::Mount {
                fs_type: self.fs_type,
                target: self.target,
                source: error.into(),
            }),
        }
    }

    fn is_mounted(&self) -> bool {
        let status = statx(CWD, self.target, AtFlags::empty(), StatxFlags::empty());
        status.is_ok_and(|status| status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }
}

pub(crate) fn make_directory(path: &str) -> rustix::io::Result<()> {
    match mkdir(path, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_binding(source: &str) -> ContainerPlan {
        let config = serde_json::json!({
            "root": {"path": "/r"},
            "process": {"cwd": "/", "args": ["sh"]},
            "mounts": [
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm"},
                {"destination": "/x", "source": source, "options": ["bind"]}],
            "linux": {"namespaces": [{"type": "mount"}]},
        });
        ContainerPlan::new(&serde_json::from_value(config).unwrap()).unwrap()
    }

    #[test]
    fn what_is_bound_is_known_by_its_path() {
        let is_bound = |source| is_bound(Path::new("/dev/shm"), &plan_binding(source));
        for source in ["/dev/shm", "/dev/shm/a", "/dev", "/dev/", "/"] {
            assert!(is_bound(source), "{source}");
        }
        for source in ["/dev/null", "/dev/shm2", "/run/shared/a/dev/shm"] {
            assert!(!is_bound(source), "{source}");
        }
    }

    #[test]
    fn mount_points_are_told_from_directories() {
        let is_mounted = |target| {
            FileSystem {
                target,
                ..ON_DEMAND[0]
            }
            .is_mounted()
        };
        assert!(is_mounted("/proc"));
        assert!(!is_mounted("/proc/self") && !is_mounted("/no/such/directory"));
    }
}
