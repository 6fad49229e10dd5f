//! Entering namespaces.

use std::fs;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid, open};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::control::Control;
use super::error::{Context, Result, SetupError};
use crate::plan::{Namespaces, Sysctl};
use crate::sys;

/// Namespaces that `clone3` does not make: it would root the cgroup namespace
/// in the agent's cgroup, and a time namespace holds for children only.
pub(crate) const MADE_LATER: ThreadNameSpaceType =
    ThreadNameSpaceType::CONTROL_GROUP.union(ThreadNameSpaceType::TIME);

/// Completes the namespaces of a new container.
pub(super) fn complete(namespaces: &Namespaces, control: &Control) -> Result<()> {
    if namespaces.new.contains(ThreadNameSpaceType::USER) {
        // The agent writes the mappings.
        if !control.wait() {
            sys::exit_now(1);
        }
        become_root()?;
    }
    for (kind, path) in &namespaces.join {
        if *kind != LinkNameSpaceType::ProcessID {
            join(*kind, path)?;
        }
    }
    let later = namespaces.new & MADE_LATER;
    if !later.is_empty() {
        sys::unshare(later).step("make the cgroup or time namespace")?;
    }
    if !namespaces.time_offsets.is_empty() {
        fs::write("/proc/self/timens_offsets", &namespaces.time_offsets)
            .step("set the time namespace's offsets")?;
    }
    if namespaces.new.contains(ThreadNameSpaceType::NETWORK) {
        sys::bring_up_loopback().step("bring up the loopback interface")?;
    }
    hide_from_container()
}

/// Keeps the container's processes from tracing this one, or reaching the
/// guest's files through its `/proc` entry, until it has become one of them.
pub(super) fn hide_from_container() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("become untraceable")
}

/// Becomes root of a user namespace, so that what is made belongs to it.
pub(super) fn become_root() -> Result<()> {
    let become_root = || {
        set_thread_groups(&[])?;
        set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
        set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
    };
    become_root().step("become root of the user namespace")
}

/// Kernel parameters of the namespaces that this process is in.
pub(super) fn set_sysctls(sysctls: &[Sysctl]) -> Result<()> {
    for Sysctl { file, value } in sysctls {
        fs::write(Path::new("/proc/sys").join(file), value).map_err(|source| {
            SetupError::Sysctl {
                file: file.clone(),
                value: value.clone(),
                source,
            }
        })?;
    }
    Ok(())
}

fn join(kind: LinkNameSpaceType, path: &Path) -> Result<()> {
    let join = || {
        let namespace = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(kind))
    };
    join().map_err(|error| SetupError::JoinNamespace {
        path: path.to_owned(),
        source: error.into(),
    })
}
