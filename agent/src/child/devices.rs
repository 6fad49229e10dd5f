//! Device nodes and links in `/dev`.

use std::os::fd::AsFd;
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
    for node in nodes {
        if own_user_namespace && node.kind != FileType::Fifo {
            bind(root, &node.path)?;
        } else {
            make_node(root, node)?;
        }
    }
    for (target, path) in LINKS {
        let (parent, name) = root.make_parent(Path::new(path)).on_path("make", path)?;
        ignore_existing(symlinkat(target, &parent, name)).on_path("make", path)?;
    }
    Ok(())
}

fn make_node(root: &Root, node: &DeviceNode) -> Result<()> {
    let make = || {
        let (parent, name) = root.make_parent(&node.path)?;
        let device = makedev(node.major, node.minor);
        ignore_existing(mknodat(
            &parent,
            name,
            node.kind,
            Mode::from_raw_mode(node.mode),
            device,
        ))?;
        if (node.uid, node.gid) == (0, 0) {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        chownat(
            &parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )
    };
    make().on_path("make the device", &node.path)
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
