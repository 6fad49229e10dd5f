//! The server's whole view of the file system: a small tmpfs with each export
//! bind-mounted into it.
//!
//! All of it happens in a mount namespace of the process's own, so nothing is
//! ever mounted in the host's and nothing can be left behind there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};
use rustix::thread::{CapabilitySet, UnshareFlags};

use crate::id_map::IdMap;
use crate::sys;

/// A directory or regular file of the host that the guest gets to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Where the guest finds it: a relative path below the root of the
    /// virtio-fs file system.
    pub name: PathBuf,
    /// The directory or file on the host.
    pub source: PathBuf,
    /// Whether what is mounted below the source is exported too.
    pub recursive: bool,
    /// Whether writes are refused, here and in whatever is mounted below.
    pub read_only: bool,
    /// Whether its files' owners are others in the guest.
    pub id_map: Option<IdMap>,
}

/// Why the exports could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The name would not lie below the root.
    #[error("{} is not a name for an export: it must be a relative path without '..'", name.display())]
    InvalidName {
        /// The name asked for.
        name: PathBuf,
    },
    /// Neither a directory nor a regular file.
    #[error("{} is neither a directory nor a regular file, and cannot be shared with a guest", path.display())]
    InvalidSource {
        /// The path on the host.
        path: PathBuf,
    },
    /// A step failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
}

impl ExportError {
    fn io<E: Into<io::Error>>(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source: source.into(),
        }
    }
}

/// Handles on `/proc` that the server needs and can no longer open.
#[derive(Debug)]
pub(crate) struct View {
    /// `/proc/self/fd`, through which descriptors are opened anew.
    pub(crate) proc_self_fd: File,
    /// `/proc/self/mountinfo`, as seen from the new root.
    pub(crate) mountinfo: File,
}

/// Set-user-id programs, device nodes and programs of a guest mean nothing to
/// this process; what takes it over shall not use them either.
const INERT: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

/// The tmpfs holds directories and empty files to mount on, and no data.
const TMPFS_SIZE: &str = "1m";

/// Makes `exports` the process's whole file system.
pub(crate) fn confine(exports: &[Export]) -> Result<View, ExportError> {
    for export in exports {
        validate_name(&export.name)?;
    }
    enter_namespace()?;
    let mounts = exports
        .iter()
        .map(Mount::detached)
        .collect::<Result<Vec<_>, _>>()?;

    // Opened here, because `/proc` is about to be out of reach; detached,
    // because `..` must not lead from it to the rest of `/proc`.
    let proc_self_fd = clone_mount(Path::new("/proc/self/fd"), OpenTreeFlags::empty())?;
    let proc_self = open(CWD, "/proc/self", OFlags::PATH | OFlags::DIRECTORY)?;

    let root = attach_root()?;
    for (export, mount) in exports.iter().zip(&mounts) {
        mount.attach(&root, &export.name)?;
    }
    // Not recursive: an export is read-only if it says so itself.
    sys::add_mount_attributes(&root, libc::MOUNT_ATTR_RDONLY | INERT, false).map_err(
        ExportError::io("make read-only the directory of", "the exports"),
    )?;
    switch_root(&root)?;

    // Only now: the file lists the mounts below the root at the time of open.
    let mountinfo = open(&proc_self, "mountinfo", OFlags::RDONLY)?;
    Ok(View {
        proc_self_fd: proc_self_fd.into(),
        mountinfo: mountinfo.into(),
    })
}

fn validate_name(name: &Path) -> Result<(), ExportError> {
    let is_plain = |component| matches!(component, Component::Normal(_));
    if name.components().next().is_some() && name.components().all(is_plain) {
        Ok(())
    } else {
        Err(ExportError::InvalidName { name: name.into() })
    }
}

/// Parts the process from the host's mounts. From its network and its System V
/// IPC the system call filter does, which lets it make no socket; a network
/// namespace would cost a start 1.3 virtual milliseconds.
fn enter_namespace() -> Result<(), ExportError> {
    let own = rustix::thread::capabilities(None);
    if own.is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_ADMIN)) {
        sys::unshare(UnshareFlags::NEWNS).map_err(ExportError::io(
            "enter a new mount namespace for",
            "the file server",
        ))?;
    } else {
        enter_user_namespace()?;
    }
    // Private, so that neither side's later mounts show on the other: a
    // container sees the mounts there were when it was created.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)
        .map_err(ExportError::io("stop the propagation of mounts below", "/"))
}

/// Enters a mount namespace together with a user namespace, by which any user may. The
/// only ids in it are the user's own, and mean the same.
fn enter_user_namespace() -> Result<(), ExportError> {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(ExportError::io(
        "enter new user and mount namespaces for",
        "the file server",
    ))?;
    for (file, content) in [
        // Without that, nobody but root may map a group: user_namespaces(7).
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{uid} {uid} 1")),
        ("/proc/self/gid_map", format!("{gid} {gid} 1")),
    ] {
        std::fs::write(file, content).map_err(ExportError::io("write", file))?;
    }
    Ok(())
}

/// A copy of an export's mount that is not attached anywhere yet.
struct Mount {
    tree: OwnedFd,
    file_type: FileType,
}

impl Mount {
    fn detached(export: &Export) -> Result<Self, ExportError> {
        let flags = if export.recursive {
            OpenTreeFlags::AT_RECURSIVE
        } else {
            OpenTreeFlags::empty()
        };
        let tree = clone_mount(&export.source, flags)?;
        let stat = rustix::fs::fstat(&tree).map_err(ExportError::io("inspect", &export.source))?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if !matches!(file_type, FileType::Directory | FileType::RegularFile) {
            return Err(ExportError::InvalidSource {
                path: export.source.clone(),
            });
        }
        let read_only = if export.read_only {
            libc::MOUNT_ATTR_RDONLY
        } else {
            0
        };
        sys::add_mount_attributes(&tree, INERT | read_only, true)
            .map_err(ExportError::io("restrict the mount of", &export.source))?;
        if let Some(map) = &export.id_map {
            map.apply(&tree)
                .map_err(ExportError::io("map the owners of", &export.source))?;
        }
        Ok(Self { tree, file_type })
    }

    fn attach(&self, root: &OwnedFd, name: &Path) -> Result<(), ExportError> {
        let failed = || ExportError::io("make the mount point of", name);
        let mut directory = PathBuf::new();
        for component in name.parent().into_iter().flat_map(Path::components) {
            directory.push(component);
            make_directory(root, &directory).map_err(failed())?;
        }
        if self.file_type == FileType::Directory {
            make_directory(root, name).map_err(failed())?;
        } else {
            let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::openat(root, name, flags, Mode::RUSR).map_err(failed())?;
        }
        rustix::mount::move_mount(
            &self.tree,
            "",
            root,
            name,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .map_err(ExportError::io("mount the export", name))
    }
}

fn make_directory(root: &OwnedFd, path: &Path) -> rustix::io::Result<()> {
    match rustix::fs::mkdirat(root, path, Mode::from_raw_mode(0o755)) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// A bind mount of `path` that is not attached anywhere.
fn clone_mount(path: &Path, flags: OpenTreeFlags) -> Result<OwnedFd, ExportError> {
    let flags = flags | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path, flags).map_err(ExportError::io("open", path))
}

fn open(directory: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd, ExportError> {
    rustix::fs::openat(directory, path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(ExportError::io("open", path))
}

/// Mounts the tmpfs that is to be the new root, over `/proc`: it needs a place
/// in the namespace, and that directory exists on each host.
fn attach_root() -> Result<OwnedFd, ExportError> {
    let failed = || ExportError::io("mount a tmpfs for", "the exports");
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed())?;
    for (key, value) in [
        ("source", "bulkhead"),
        ("size", TMPFS_SIZE),
        ("mode", "0755"),
    ] {
        rustix::mount::fsconfig_set_string(&context, key, value).map_err(failed())?;
    }
    rustix::mount::fsconfig_create(&context).map_err(failed())?;
    let root = rustix::mount::fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .map_err(failed())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&root, "", CWD, "/proc", flags).map_err(failed())?;
    Ok(root)
}

/// Makes `root` the process's root and detaches the old one.
fn switch_root(root: &OwnedFd) -> Result<(), ExportError> {
    let failed = || ExportError::io("change the root directory to", "the exports");
    rustix::process::fchdir(root).map_err(failed())?;
    match rustix::process::pivot_root(".", ".") {
        // The old root is now mounted over the new one: pivot_root(2), notes.
        Ok(()) => rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(failed())?,
        // The initial ramfs cannot be pivoted away from; it is covered instead.
        Err(rustix::io::Errno::INVAL) => {
            rustix::mount::mount_move(".", "/").map_err(failed())?;
            rustix::process::chroot(".").map_err(failed())?;
        }
        Err(errno) => return Err(failed()(errno)),
    }
    rustix::process::chdir("/").map_err(failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_root() {
        for good in ["a", "box/rootfs", "box/0", "a.b_c+d-e"] {
            assert!(validate_name(Path::new(good)).is_ok(), "{good}");
        }
        for bad in ["", "/", "/etc", "..", "a/../b", "../a", "."] {
            let error = validate_name(Path::new(bad)).unwrap_err();
            assert!(matches!(error, ExportError::InvalidName { .. }), "{bad}");
        }
    }
}
