//! Who the process is: ids, capabilities, and what it may still call.

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{chdir, getcwd, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::error::{Context, Result, SetupError};
use crate::plan::{CapabilityPlan, ProcessPlan};

/// Gives up what the process must not have. Afterwards it is who its command
/// will be, in the directory where that starts.
pub(super) fn assume(plan: &ProcessPlan) -> Result<()> {
    for capability in (CapabilitySet::all() - plan.capabilities.bounding).iter() {
        drop_from_bounding_set(capability).step("drop capabilities from the bounding set")?;
    }
    set_keep_capabilities(true).step("keep capabilities")?;
    // The directory may be for root's eyes only, or for the user's.
    let denied_to_root = match chdir(&plan.cwd) {
        Err(Errno::ACCESS) => true,
        result => {
            result.on_path("change to the working directory", &plan.cwd)?;
            false
        }
    };
    set_ids(plan).step("set user and group ids")?;
    set_keep_capabilities(false).step("keep capabilities no longer")?;
    set_capability_sets(&plan.capabilities).step("set capabilities")?;
    if denied_to_root {
        chdir(&plan.cwd).on_path("change to the working directory", &plan.cwd)?;
    }
    umask(Mode::from_raw_mode(plan.umask));
    check_cwd(plan)
}

fn drop_from_bounding_set(capability: CapabilitySet) -> rustix::io::Result<()> {
    match remove_capability_from_bounding_set(capability) {
        // Unknown to this kernel.
        Err(Errno::INVAL) => Ok(()),
        other => other,
    }
}

fn set_ids(plan: &ProcessPlan) -> rustix::io::Result<()> {
    set_thread_groups(&plan.groups)?;
    set_thread_res_gid(plan.gid, plan.gid, plan.gid)?;
    set_thread_res_uid(plan.uid, plan.uid, plan.uid)
}

fn set_capability_sets(plan: &CapabilityPlan) -> rustix::io::Result<()> {
    let sets = CapabilitySets {
        effective: plan.effective,
        permitted: plan.permitted,
        inheritable: plan.inheritable,
    };
    set_capabilities(None, sets)?;
    clear_ambient_capability_set()?;
    plan.ambient
        .iter()
        .try_for_each(|capability| configure_capability_in_ambient_set(capability, true))
}

/// A working directory that cannot be named lies outside the root.
fn check_cwd(plan: &ProcessPlan) -> Result<()> {
    let name = getcwd(Vec::new()).on_path("name the working directory", &plan.cwd)?;
    if name.to_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(SetupError::Path {
            action: "stay in the working directory",
            path: plan.cwd.clone(),
            source: Errno::NOENT.into(),
        })
    }
}
