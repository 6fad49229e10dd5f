//! A container's cgroup: limits, devices, and whether the container manages it.

use std::collections::BTreeSet;

use rustix::mount::MountAttrFlags;
use rustix::process::Uid;
use rustix::thread::ThreadNameSpaceType;

use super::resources::CgroupWrite;
use super::{MountKind, MountPlan, Namespaces, PlanError, devices, resources};
use crate::config::Resources;

/// Controllers of every container's cgroup: those that engines and managers of
/// cgroups ask for. Each one more costs every container a few files.
pub(crate) const USUAL_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// A container's cgroup.
#[derive(Debug, Clone)]
pub(crate) struct CgroupPlan {
    /// What to write to its files.
    pub(crate) writes: Vec<CgroupWrite>,
    /// Its device filter, instructions of the BPF machine.
    pub(crate) device_filter: Vec<u64>,
    /// Controllers beyond the usual ones.
    pub(crate) controllers: Controllers,
    /// Who manages it from within the container, a user id of the guest; none
    /// if only root can.
    pub(crate) owner: Option<Uid>,
}

/// Controllers of a cgroup beyond the usual ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Controllers {
    /// These, which limits are set of.
    Named(BTreeSet<String>),
    /// All there are: the container makes cgroups of its own, and may want any.
    All,
}

impl CgroupPlan {
    pub(super) fn new(
        resources: &Resources,
        mounts: &[MountPlan],
        namespaces: &Namespaces,
        uid: Uid,
    ) -> Result<Self, PlanError> {
        let writes = resources::plan(resources)?;
        let is_managed = mounts.iter().any(is_writable_hierarchy);
        Ok(Self {
            controllers: if is_managed {
                Controllers::All
            } else {
                Controllers::Named(further_controllers(&writes))
            },
            device_filter: devices::filter(&resources.devices)?,
            owner: owner(is_managed, namespaces, uid),
            writes,
        })
    }
}

/// `config-linux.md`, 'Cgroup ownership'.
fn owner(is_managed: bool, namespaces: &Namespaces, uid: Uid) -> Option<Uid> {
    let has_namespace = namespaces.new.contains(ThreadNameSpaceType::CONTROL_GROUP);
    let owner = namespaces.uid_outside(uid);
    (is_managed && has_namespace && !owner.is_root()).then_some(owner)
}

fn is_writable_hierarchy(mount: &MountPlan) -> bool {
    matches!(&mount.kind, MountKind::FileSystem { fs_type, .. } if fs_type == "cgroup2")
        && !mount
            .attributes
            .set
            .contains(MountAttrFlags::MOUNT_ATTR_RDONLY)
}

fn further_controllers(writes: &[CgroupWrite]) -> BTreeSet<String> {
    writes
        .iter()
        .filter_map(|write| write.file.split('.').next())
        .filter(|controller| !USUAL_CONTROLLERS.contains(controller))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::plan::ContainerPlan;

    /// Plans a container with a cgroup mount, changed by `change`.
    fn plan(change: impl FnOnce(&mut serde_json::Value)) -> CgroupPlan {
        let mut config = serde_json::json!({
            "root": {"path": "/r"},
            "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 7}},
            "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["nosuid"]}],
            "linux": {"namespaces": [{"type": "mount"}, {"type": "cgroup"}], "resources": {}},
        });
        change(&mut config);
        let config: Config = serde_json::from_value(config).unwrap();
        ContainerPlan::new(&config).unwrap().cgroup
    }

    #[test]
    fn a_container_that_may_write_to_its_cgroup_owns_it() {
        let managed = plan(|_| {});
        assert_eq!(managed.owner, Some(Uid::from_raw(7)));
        assert_eq!(managed.controllers, Controllers::All);
        let mapped = plan(|config| {
            config["linux"]["namespaces"] =
                serde_json::json!([{"type": "mount"}, {"type": "cgroup"}, {"type": "user"}]);
            let map = serde_json::json!([{"containerID": 0, "hostID": 1000, "size": 100}]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        });
        assert_eq!(mapped.owner, Some(Uid::from_raw(1007)));
    }

    #[test]
    fn others_do_not() {
        let read_only = plan(|config| config["mounts"][0]["options"] = serde_json::json!(["ro"]));
        assert_eq!(read_only.owner, None);
        assert_eq!(read_only.controllers, Controllers::Named(BTreeSet::new()));
        let shared = plan(|config| {
            config["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}]);
        });
        assert_eq!(shared.owner, None);
        let root = plan(|config| config["process"]["user"]["uid"] = 0.into());
        assert_eq!(root.owner, None);
    }

    #[test]
    fn controllers_that_limits_need_are_named() {
        let limited = plan(|config| {
            config["mounts"] = serde_json::json!([]);
            config["linux"]["resources"] = serde_json::json!({
                "memory": {"limit": 4096}, "unified": {"misc.max": "res_a 1"},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 0}]});
        });
        let names = ["hugetlb", "misc"].map(String::from);
        assert_eq!(limited.controllers, Controllers::Named(names.into()));
    }
}
