//! From a configuration to what has to be done: everything that can be decided
//! without a system call, and so be tested without root.
//!
//! A plan is made before anything exists in the guest; what a configuration
//! asks for and the guest cannot give is refused here.

mod capabilities;
mod cgroup;
mod device_filter;
mod devices;
mod hooks;
mod mount_options;
mod mounts;
mod namespaces;
mod priority;
mod process;
mod resources;
mod sysctls;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;

pub(crate) use capabilities::CapabilityPlan;
pub(crate) use cgroup::{CgroupPlan, Controllers, USUAL_CONTROLLERS};
pub(crate) use devices::DeviceNode;
pub(crate) use hooks::HookPlan;
pub(crate) use mount_options::{Attributes, Propagation};
pub(crate) use mounts::{MountKind, MountPlan, Parameter};
pub(crate) use namespaces::{IdMaps, Namespaces};
pub(crate) use priority::{CpuList, IoPriority, Scheduling};
pub(crate) use process::{ProcessPlan, ResourceLimit};
pub(crate) use resources::{CgroupWrite, plan as limits};
pub(crate) use sysctls::Sysctl;

use crate::config::{Config, Personality};

/// Why a configuration cannot be turned into a container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// A part without which there is no container.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Something that this agent does not do.
    #[error("{field} is not supported in the guest")]
    Unsupported {
        /// The field's name.
        field: &'static str,
    },
    /// A field has a value that makes no sense.
    #[error("{field}: '{value}': {reason}")]
    Invalid {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Everything needed to make a container.
#[derive(Debug, Clone)]
pub(crate) struct ContainerPlan {
    /// The root file system, a path in the guest.
    pub(crate) rootfs: PathBuf,
    /// Whether it is made read-only once it is complete.
    pub(crate) readonly_rootfs: bool,
    /// Propagation of the root mount, if not the default.
    pub(crate) rootfs_propagation: Option<Propagation>,
    /// Namespaces to make or join.
    pub(crate) namespaces: Namespaces,
    /// Host name to set.
    pub(crate) hostname: Option<String>,
    /// Domain name to set.
    pub(crate) domainname: Option<String>,
    /// File systems, in order.
    pub(crate) mounts: Vec<MountPlan>,
    /// Device nodes, the default ones first; `None` if `/dev` is the user's
    /// own and stays as it is.
    pub(crate) devices: Option<Vec<DeviceNode>>,
    /// Paths to hide.
    pub(crate) masked_paths: Vec<PathBuf>,
    /// Paths to make read-only.
    pub(crate) readonly_paths: Vec<PathBuf>,
    /// Kernel parameters to set.
    pub(crate) sysctls: Vec<Sysctl>,
    /// The cgroup.
    pub(crate) cgroup: CgroupPlan,
    /// Execution domain to set.
    pub(crate) personality: Option<Personality>,
    /// What runs right before the command.
    pub(crate) start_hooks: Vec<HookPlan>,
    /// What those are told about the container.
    pub(crate) annotations: BTreeMap<String, String>,
    /// The init process.
    pub(crate) process: ProcessPlan,
}

impl ContainerPlan {
    /// Decides what a configuration means.
    pub(crate) fn new(config: &Config) -> Result<Self, PlanError> {
        let linux = &config.linux;
        refuse_what_would_be_ignored(config)?;
        if config.root.path.as_os_str().is_empty() {
            return Err(PlanError::Missing("root.path"));
        }
        let process = config.process.as_ref();
        let process = ProcessPlan::new(process.ok_or(PlanError::Missing("process"))?)?;
        let namespaces = Namespaces::new(linux)?;
        let mounts = mounts::plan(&config.mounts)?;
        Ok(Self {
            rootfs: config.root.path.clone(),
            readonly_rootfs: config.root.readonly,
            rootfs_propagation: mounts::rootfs_propagation(linux)?,
            hostname: config.hostname.clone().filter(|name| !name.is_empty()),
            domainname: config.domainname.clone().filter(|name| !name.is_empty()),
            devices: devices::plan(&linux.devices, &config.mounts)?,
            masked_paths: linux.masked_paths.clone(),
            readonly_paths: linux.readonly_paths.clone(),
            sysctls: sysctls::plan(&linux.sysctl)?,
            cgroup: CgroupPlan::new(&linux.resources, &mounts, &namespaces, process.uid)?,
            personality: linux.personality,
            start_hooks: hooks::plan(&config.hooks.start_container)?,
            annotations: config.annotations.clone(),
            namespaces,
            mounts,
            process,
        })
    }
}

/// What has no effect in a guest, or would have to have one on the host.
fn refuse_what_would_be_ignored(config: &Config) -> Result<(), PlanError> {
    let unsupported = [
        (config.linux.intel_rdt.is_some(), "linux.intelRdt"),
        (
            config.linux.resources.rdma.is_some(),
            "linux.resources.rdma",
        ),
    ];
    match unsupported.into_iter().find(|(asked_for, _)| *asked_for) {
        Some((_, field)) => Err(PlanError::Unsupported { field }),
        None => Ok(()),
    }
}

fn invalid(field: &'static str, value: &dyn Display, reason: &'static str) -> PlanError {
    PlanError::Invalid {
        field,
        value: value.to_string(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Config {
        serde_json::from_str(json).unwrap()
    }

    const MINIMAL: &str = r#"{"root": {"path": "/r"}, "process": {"cwd": "/", "args": ["sh"]},
        "linux": {"namespaces": [{"type": "mount"}]}}"#;

    #[test]
    fn minimal_configuration_is_enough() {
        let plan = ContainerPlan::new(&config(MINIMAL)).unwrap();
        assert_eq!(plan.rootfs, PathBuf::from("/r"));
        assert!(plan.mounts.is_empty());
        assert_eq!(plan.devices.unwrap(), devices::default_devices());
    }

    #[test]
    fn missing_parts_are_named() {
        for (json, field) in [
            (r#"{"process": {"cwd": "/", "args": ["a"]}}"#, "root.path"),
            (
                r#"{"root": {"path": "/r"}, "linux": {"namespaces": [{"type": "mount"}]}}"#,
                "process",
            ),
        ] {
            let error = ContainerPlan::new(&config(json)).unwrap_err();
            assert!(error.to_string().starts_with(field), "{error}");
        }
    }
}
