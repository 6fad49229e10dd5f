//! Device nodes and links in `/dev`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, chownat, makedev, mknodat, symlinkat};
use rustix::io::Errno;

use super::error::{Context, Result};
use super::mounts;
use super::resolve::Root;
use crate::plan::DeviceNode;

/// `config-linux.md`, 'Default Devices' and 'Dev symbolic links'.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Makes nodes and links. In a user namespace the kernel refuses to make
/// nodes; there the guest's own are bound.
pub(super) fn make(root: &Root, nodes: &[DeviceNode], own_user_namespace: bool) -> Result<()> {
    let mut parents = Parents::new(root);
    for node in nodes {
        if own_user_namespace && node.kind != FileType::Fifo {
            bind(root, &node.path)?;
        } else {
            make_node(&mut parents, node).on_path("make the device", &node.path)?;
        }
    }
    for (target, path) in LINKS {
        make_link(&mut parents, target, Path::new(path)).on_path("make", path)?;
    }
    Ok(())
}

/// Directories in which something is made, each opened once for all that
/// follow each other in it: most of them are `/dev`.
struct Parents<'a> {
    root: &'a Root,
    last: Option<(&'a Path, OwnedFd)>,
}

impl<'a> Parents<'a> {
    fn new(root: &'a Root) -> Self {
        Self { root, last: None }
    }

    /// Opens the directory above a path, and tells the last component.
    fn open(&mut self, path: &'a Path) -> rustix::io::Result<(BorrowedFd<'_>, &'a OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        let opened = match self.last.take() {
            Some((last, opened)) if last == parent => opened,
            _ => self.root.make_directory(parent)?,
        };
        Ok((self.last.insert((parent, opened)).1.as_fd(), name))
    }
}

fn make_node<'a>(parents: &mut Parents<'a>, node: &'a DeviceNode) -> rustix::io::Result<()> {
    let (parent, name) = parents.open(&node.path)?;
    let mode = Mode::from_raw_mode(node.mode);
    let device = makedev(node.major, node.minor);
    ignore_existing(mknodat(parent, name, node.kind, mode, device))?;
    if (node.uid, node.gid) == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    chownat(parent, name, Some(uid), Some(gid), flags)
}

fn make_link<'a>(
    parents: &mut Parents<'a>,
    target: &str,
    path: &'a Path,
) -> rustix::io::Result<()> {
    let (parent, name) = parents.open(path)?;
    ignore_existing(symlinkat(target, parent, name))
}

fn bind(root: &Root, path: &Path) -> Result<()> {
    let bind = || {
        let mount = mounts::clone(CWD, path, false)?;
        let target = root.make_file(path)?;
        mounts::attach(mount, target.as_fd())
    };
    bind().on_path("bind the device", path)
}

/// Images without a file system of their own on `/dev` bring such files along.
fn ignore_existing(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}
