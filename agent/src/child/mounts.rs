//! Mounting, with the kernel's mount API by descriptors: what is mounted is
//! complete, attributes and all, before it appears anywhere, and where it
//! appears is a directory that was opened safely, not a path.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::copy_up;
use super::error::{Context, Result, SetupError};
use super::resolve::Root;
use crate::plan::{Attributes, MountKind, MountPlan, Parameter};
use crate::sys;

/// Mounts one of the configuration's mounts. Returns it for what comes later.
pub(super) fn mount(root: &Root, plan: &MountPlan) -> Result<OwnedFd> {
    let destination = &plan.destination;
    let mount = match &plan.kind {
        MountKind::FileSystem {
            fs_type,
            source,
            parameters,
            ..
        } => {
            let mode = covered_mode(root, plan);
            let parameters = parameters.iter().chain(&mode);
            file_system(fs_type, source.as_deref(), parameters, plan.attributes)
                .map_err(|failure| failure.on(fs_type.clone(), destination))?
        }
        MountKind::Bind { source, recursive } => clone(CWD, source, *recursive)
            .map_err(|error| failed(source.display().to_string(), destination, error))?,
    };
    set_up(&mount, plan).on_path("set the options of the mount on", destination)?;
    let target = target(root, &mount, destination)?;
    if let MountKind::FileSystem { copy_up: true, .. } = plan.kind {
        copy_up::copy_tree(target.as_fd(), mount.as_fd())
            .on_path("copy into the tmpfs what it covers, that is", destination)?;
    }
    attach(&mount, target.as_fd()).on_path("mount on", destination)?;
    Ok(mount)
}

/// A tmpfs that is told no mode takes that of the directory it covers, as runc
/// has it. Its own default lets everybody write.
fn covered_mode(root: &Root, plan: &MountPlan) -> Option<Parameter> {
    if !plan.is_tmpfs_without_mode() {
        return None;
    }
    let covered = root.open(&plan.destination, OFlags::PATH).ok()?;
    let mode = fstat(&covered).ok()?.st_mode & 0o7777;
    Some(("mode".into(), Some(format!("{mode:o}"))))
}

/// Opens the place for a mount, made if it is missing: a directory for a
/// directory, a file for anything else.
fn target(root: &Root, mount: &OwnedFd, destination: &Path) -> Result<OwnedFd> {
    let is_directory = fstat(mount)
        .map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        .step("examine a mount")?;
    if is_directory {
        root.make_directory(destination)
    } else {
        root.make_file(destination)
    }
    .on_path("make the mount point", destination)
}

fn set_up(mount: &OwnedFd, plan: &MountPlan) -> std::io::Result<()> {
    let recursive = plan
        .propagation
        .is_some_and(|propagation| propagation.recursive);
    if plan.recursive_attributes != Attributes::NONE {
        sys::set_attributes(mount, plan.recursive_attributes, None, true)?;
    }
    // A new file system has its attributes already.
    let bind = matches!(plan.kind, MountKind::Bind { .. });
    if bind && plan.attributes != Attributes::NONE {
        sys::set_attributes(mount, plan.attributes, None, false)?;
    }
    if plan.propagation.is_some() {
        sys::set_attributes(mount, Attributes::NONE, plan.propagation, recursive)?;
    }
    Ok(())
}

/// Why a file system could not be made.
pub(super) struct Failure {
    errno: Errno,
    log: String,
}

impl Failure {
    pub(super) fn on(self, what: String, destination: &Path) -> SetupError {
        SetupError::Mount {
            what,
            destination: destination.to_owned(),
            log: self.log,
            source: self.errno.into(),
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            log: String::new(),
        }
    }
}

fn failed(what: String, destination: &Path, errno: Errno) -> SetupError {
    Failure::from(errno).on(what, destination)
}

/// Makes a file system, mounted nowhere yet.
pub(super) fn file_system<'a>(
    fs_type: &str,
    source: Option<&str>,
    parameters: impl IntoIterator<Item = &'a Parameter>,
    attributes: Attributes,
) -> std::result::Result<OwnedFd, Failure> {
    let context = fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let configure = || {
        if let Some(source) = source {
            fsconfig_set_string(&context, "source", source)?;
        }
        for (name, value) in parameters {
            match value {
                Some(value) => fsconfig_set_string(&context, name, value)?,
                None => fsconfig_set_flag(&context, name)?,
            }
        }
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes.set)
    };
    configure().map_err(|errno| Failure {
        errno,
        log: read_log(&context),
    })
}

/// What the kernel says about a file system that it could not make, a line
/// each as `e tmpfs: Unknown parameter 'x'`.
fn read_log(context: &OwnedFd) -> String {
    let mut log = String::new();
    let mut line = [0; 256];
    while let Ok(n @ 1..) = rustix::io::read(context, &mut line) {
        let text = String::from_utf8_lossy(&line[..n]);
        log.push_str(": ");
        log.push_str(text.trim_start_matches(['e', 'w', 'i']).trim());
    }
    log
}

/// Clones a mount, or the part of one that starts at `path`.
pub(super) fn clone(
    directory: impl AsFd,
    path: &Path,
    recursive: bool,
) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    open_tree(directory, path, flags)
}

/// Puts a mount where `target` is.
pub(super) fn attach(mount: impl AsFd, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let by_descriptor =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount.as_fd(), "", target, "", by_descriptor)
}
