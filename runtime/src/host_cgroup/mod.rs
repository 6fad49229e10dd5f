//! The container's cgroup on the host: where its engine looks for it, and where
//! what the whole sandbox takes from the host is counted and limited.
//!
//! cgroup v1 and v2, by way of the file system, are libcgroups' affair. What the
//! container's own processes may take of their guest is the agent's.

mod limits;
mod systemd;

use std::error::Error as StdError;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, CgroupManager, CgroupSetup, ControllerOpt,
    CreateCgroupSetupError, DEFAULT_CGROUP_ROOT, create_cgroup_manager, get_cgroup_setup,
};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};

use self::systemd::Scope;
use crate::id::ContainerId;
pub(crate) use limits::limits;

/// Who makes cgroups on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    /// We do; `linux.cgroupsPath` is a path below the hierarchy's root.
    Cgroupfs,
    /// systemd does; `linux.cgroupsPath` is `slice:prefix:name`.
    Systemd,
}

/// A container's cgroup on the host, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostCgroup {
    /// `linux.cgroupsPath`.
    path: PathBuf,
    driver: Driver,
    /// Names the unit to systemd's users.
    container: ContainerId,
}

/// Why a cgroup of the host cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the cgroup {} of this host (linux.cgroupsPath)", path.display())]
pub(crate) struct CgroupError {
    action: &'static str,
    path: PathBuf,
    source: Box<dyn StdError + Send + Sync>,
}

impl HostCgroup {
    /// The one that a configuration asks for.
    pub(crate) fn of(spec: &Spec, driver: Driver, container: &ContainerId) -> Option<Self> {
        let path = spec.linux().as_ref()?.cgroups_path().clone()?;
        (!path.as_os_str().is_empty()).then(|| Self {
            path,
            driver,
            container: container.clone(),
        })
    }

    /// Makes it, with its limits, and moves the calling process into it, and so
    /// whatever that starts from here on.
    pub(crate) fn enter(&self, limits: &LinuxResources) -> Result<(), CgroupError> {
        match self.driver {
            Driver::Systemd => {
                let container = self.container.to_string();
                let scope = Scope::parse(&self.path);
                scope
                    .and_then(|scope| scope.start(&container, process::id(), limits))
                    .map_err(self.failed("make"))
            }
            Driver::Cgroupfs => {
                let manager = self.manager("make")?;
                manager.add_task(Pid::this()).map_err(self.failed("make"))?;
                self.apply(&manager, limits)
            }
        }
    }

    /// Changes its limits; those that are not named stay.
    pub(crate) fn limit(&self, limits: &LinuxResources) -> Result<(), CgroupError> {
        match self.driver {
            Driver::Systemd => Scope::parse(&self.path)
                .and_then(|scope| scope.limit(limits))
                .map_err(self.failed("set the limits of")),
            Driver::Cgroupfs => self.apply(&self.manager("find")?, limits),
        }
    }

    /// Removes it, and ends what may still run in it.
    pub(crate) fn remove(&self) -> Result<(), CgroupError> {
        match self.driver {
            Driver::Systemd => Scope::parse(&self.path)
                .and_then(|scope| scope.stop())
                .map_err(self.failed("remove")),
            Driver::Cgroupfs => {
                let removed = self.manager("remove")?.remove();
                removed.map_err(self.failed("remove"))
            }
        }
    }

    fn apply(
        &self,
        manager: &AnyCgroupManager,
        limits: &LinuxResources,
    ) -> Result<(), CgroupError> {
        let options = ControllerOpt {
            resources: limits,
            disable_oom_killer: false,
            oom_score_adj: None,
            freezer_state: None,
        };
        manager
            .apply(&options)
            .map_err(self.failed("set the limits of"))
    }

    fn manager(&self, action: &'static str) -> Result<AnyCgroupManager, CgroupError> {
        manager(&self.path).map_err(self.failed(action))
    }

    fn failed<E>(&self, action: &'static str) -> impl FnOnce(E) -> CgroupError
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let path = self.path.clone();
        move |source| CgroupError {
            action,
            path,
            source: source.into(),
        }
    }
}

/// Moves the calling process out of whatever container's cgroup it is in, so
/// that the cgroup can be removed: to `home`, its path in the unified
/// hierarchy from before, or to the roots of the older ones.
pub(crate) fn leave_for(home: &Home) -> Result<(), CgroupError> {
    let failed = |source| CgroupError {
        action: "go back to",
        path: home.0.clone(),
        source,
    };
    match get_cgroup_setup().map_err(|e| failed(e.into()))? {
        CgroupSetup::Unified => {
            let path = Path::new(DEFAULT_CGROUP_ROOT).join(&home.0);
            fs::write(path.join("cgroup.procs"), Pid::this().to_string())
                .map_err(|e| failed(e.into()))
        }
        CgroupSetup::Legacy | CgroupSetup::Hybrid => {
            let roots = manager(Path::new("/")).map_err(|e| failed(e.into()))?;
            roots.add_task(Pid::this()).map_err(|e| failed(e.into()))
        }
    }
}

fn manager(path: &Path) -> Result<AnyCgroupManager, CreateCgroupSetupError> {
    create_cgroup_manager(CgroupConfig {
        cgroup_path: path.to_owned(),
        systemd_cgroup: false,
        container_name: String::new(),
    })
}

/// A process's cgroup in the unified hierarchy, relative to its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// The calling process's.
    pub(crate) fn current() -> Self {
        // Where nothing is told, the root does.
        Self::parse(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default())
    }

    /// Lines are `hierarchy:controllers:path` (`cgroups(7)`).
    fn parse(table: &str) -> Self {
        let path = table.lines().find_map(|line| line.strip_prefix("0::/"));
        Self(path.unwrap_or_default().into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cgroup(linux: &serde_json::Value) -> Option<HostCgroup> {
        let spec = json!({ "ociVersion": "1.2.0", "linux": linux });
        let spec = serde_json::from_value(spec).unwrap();
        HostCgroup::of(&spec, Driver::Cgroupfs, &ContainerId::parse("box").unwrap())
    }

    #[test]
    fn only_who_names_one_gets_one() {
        assert_eq!(cgroup(&json!({})), None);
        assert_eq!(cgroup(&json!({ "cgroupsPath": "" })), None);
        let named = cgroup(&json!({ "cgroupsPath": "/engine/box" })).unwrap();
        assert_eq!(named.path, Path::new("/engine/box"));
    }

    #[test]
    fn home_is_that_of_the_unified_hierarchy() {
        let home = |table| Home::parse(table).0;
        assert_eq!(home("0::/a/b\n"), Path::new("a/b"));
        assert_eq!(home("3:cpu:/x\n0::/\n"), Path::new(""));
        assert_eq!(home("3:cpu:/x\n"), Path::new(""));
    }
}
