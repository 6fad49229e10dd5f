//! The container's root file system: mounts, devices, what is hidden; and the
//! change into it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::error::{Context, Result};
use super::resolve::Root;
use super::{devices, mounts};
use crate::plan::{Attributes, ContainerPlan, Propagation};
use crate::sys;

/// A root file system that is complete but for its protection.
pub(super) struct Built {
    pub(super) root: Root,
    /// Mounts that are to be read-only and could not be so far.
    writable: Vec<OwnedFd>,
}

/// Builds the root file system, as the root of no process yet.
pub(super) fn build(plan: &ContainerPlan, own_user_namespace: bool) -> Result<Built> {
    let root = mount_root(&plan.rootfs)?;
    let mut writable = Vec::new();
    for mount in &plan.mounts {
        let mounted = mounts::mount(&root, mount)?;
        if mount.read_only_at_last {
            writable.push(mounted);
        }
    }
    if let Some(nodes) = &plan.devices {
        devices::make(&root, nodes, own_user_namespace)?;
    }
    // As runc has it: the working directory is made, once, for init.
    root.make_directory(&plan.process.cwd)
        .on_path("make the working directory", &plan.process.cwd)?;
    Ok(Built { root, writable })
}

/// What must come after everything that writes to the root file system.
pub(super) fn protect(built: &Built, plan: &ContainerPlan) -> Result<()> {
    let root = &built.root;
    for path in &plan.readonly_paths {
        make_read_only(root, path)?;
    }
    let mut mask = Mask::default();
    for path in &plan.masked_paths {
        mask.hide(root, path)?;
    }
    for mount in &built.writable {
        sys::set_attributes(mount, Attributes::READ_ONLY, None, false)
            .step("make a mount read-only")?;
    }
    if plan.readonly_rootfs {
        sys::set_attributes(root, Attributes::READ_ONLY, None, false)
            .step("make the root file system read-only")?;
    }
    Ok(())
}

/// Makes it the root of this process and of its mount namespace.
pub(super) fn enter(root: &Root, propagation: Option<Propagation>) -> Result<()> {
    let pivot = || {
        fchdir(root)?;
        // The old root comes to lie on top of the new one, and is taken away.
        pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        chdir("/")
    };
    pivot().step("change the root")?;
    if let Some(propagation) = propagation {
        let mut flags = propagation.kind;
        flags.set(MountPropagationFlags::REC, propagation.recursive);
        mount_change("/", flags).step("set the root's propagation")?;
    }
    Ok(())
}

/// A mount of its own for the root, which `pivot_root` needs, in a namespace
/// from which nothing propagates.
fn mount_root(path: &Path) -> Result<Root> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).step("make all mounts private")?;
    let tree = mounts::clone(CWD, path, true).on_path("open the root file system", path)?;
    move_mount(
        &tree,
        "",
        CWD,
        path,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .on_path("mount the root file system", path)?;
    Ok(Root::new(tree))
}

fn make_read_only(root: &Root, path: &Path) -> Result<()> {
    let Some(target) = open_existing(root, path)? else {
        return Ok(());
    };
    let bind = || -> std::io::Result<()> {
        let mount = mounts::clone(&target, Path::new(""), true)?;
        sys::set_attributes(&mount, Attributes::READ_ONLY, None, false)?;
        Ok(mounts::attach(mount, target.as_fd())?)
    };
    bind().on_path("make read-only", path)
}

/// Hides paths: a file under `/dev/null`, a directory under an empty one.
#[derive(Default)]
struct Mask {
    /// The mount that hides the first directory; the others get clones of it.
    empty_directory: Option<OwnedFd>,
}

impl Mask {
    fn hide(&mut self, root: &Root, path: &Path) -> Result<()> {
        let Some(target) = open_existing(root, path)? else {
            return Ok(());
        };
        let stat = fstat(&target).on_path("examine", path)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let mount = self.empty_directory(path)?;
            mounts::attach(&mount, target.as_fd()).on_path("hide", path)?;
            self.empty_directory.get_or_insert(mount);
            return Ok(());
        }
        let null = mounts::clone(CWD, Path::new("/dev/null"), false).on_path("hide", path)?;
        mounts::attach(&null, target.as_fd()).on_path("hide", path)
    }

    fn empty_directory(&self, path: &Path) -> Result<OwnedFd> {
        match &self.empty_directory {
            Some(mount) => mounts::clone(mount, Path::new(""), false).on_path("hide", path),
            None => mounts::file_system("tmpfs", Some("tmpfs"), &[], Attributes::READ_ONLY)
                .map_err(|failure| failure.on("an empty directory".into(), path)),
        }
    }
}

/// Kernels differ in what is below `/proc` and `/sys`: what is not there needs
/// no protection.
fn open_existing(root: &Root, path: &Path) -> Result<Option<OwnedFd>> {
    match root.open(path, OFlags::PATH) {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error).on_path("open", path),
    }
}
