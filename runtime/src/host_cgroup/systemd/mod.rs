//! A container's cgroup as systemd has it: a scope, a unit of processes that systemd
//! has not started, which it is asked for and told the limits of.

mod bus;
mod properties;
mod wire;

use std::path::Path;

use libcgroups::common::{CgroupSetup, GetCgroupSetupError, get_cgroup_setup};
use oci_spec::runtime::LinuxResources;

use self::bus::{Bus, BusError};
use self::properties::properties;
use self::wire::{Value, Writer};
use crate::context::is_rootless;

/// Why systemd has no scope for a container, or not the one it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum SystemdError {
    #[error("with systemd a path is slice:prefix:name")]
    Path,
    #[error("{0:?} is no list of processors or memory nodes")]
    List(String),
    #[error("systemd is asked for cgroups on hosts with cgroup v2 alone; use cgroupfs")]
    Legacy,
    #[error(transparent)]
    Setup(#[from] GetCgroupSetupError),
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// A scope, which may be there or not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scope {
    unit: String,
    slice: String,
}

impl Scope {
    /// The one that `linux.cgroupsPath` names: `slice:prefix:name`, where no slice is
    /// the system's or, without root, the user's.
    pub(super) fn parse(path: &Path) -> Result<Self, SystemdError> {
        let fields = path
            .to_str()
            .map(|path| path.split(':').collect::<Vec<_>>());
        let Some([slice, prefix, name]) = fields.as_deref() else {
            return Err(SystemdError::Path);
        };
        let slice = match *slice {
            "" if is_rootless() => "user.slice",
            "" => "system.slice",
            slice => slice,
        };
        Ok(Self {
            unit: format!("{prefix}-{name}.scope"),
            slice: slice.to_owned(),
        })
    }

    /// Has systemd make it, with its limits and one process.
    pub(super) fn start(
        &self,
        container: &str,
        process: u32,
        limits: &LinuxResources,
    ) -> Result<(), SystemdError> {
        if !matches!(get_cgroup_setup()?, CgroupSetup::Unified) {
            return Err(SystemdError::Legacy);
        }
        let mut properties = properties(limits)?;
        let text = |text: &str| Value::String(text.to_owned());
        properties.extend([
            ("Description", text(&format!("container {container}"))),
            ("Slice", text(&self.slice)),
            ("PIDs", Value::U32s(vec![process])),
            // Engines look into it, and limits of all kinds may be set later.
            ("Delegate", Value::Bool(true)),
            ("CPUAccounting", Value::Bool(true)),
            ("IOAccounting", Value::Bool(true)),
            ("MemoryAccounting", Value::Bool(true)),
            ("TasksAccounting", Value::Bool(true)),
            // Whoever starts containers orders them before the host's shutdown.
            ("DefaultDependencies", Value::Bool(false)),
            // The name is free again, however it ends.
            ("CollectMode", text("inactive-or-failed")),
        ]);
        let mut arguments = Writer::default();
        arguments
            .string(&self.unit)
            .string("fail")
            .properties(&properties)
            // No other units.
            .array(8, |_| ());
        Ok(Bus::connect()?.run("StartTransientUnit", "ssa(sv)a(sa(sv))", &arguments)?)
    }

    /// Changes the limits that are named.
    pub(super) fn limit(&self, limits: &LinuxResources) -> Result<(), SystemdError> {
        let properties = properties(limits)?;
        if properties.is_empty() {
            return Ok(());
        }
        let mut arguments = Writer::default();
        // For this run of the host.
        let is_runtime = true;
        arguments
            .string(&self.unit)
            .bool(is_runtime)
            .properties(&properties);
        Bus::connect()?.call("SetUnitProperties", "sba(sv)", &arguments)?;
        Ok(())
    }

    /// Kills what is in it, and waits until it is gone. Without processes it goes by
    /// itself.
    pub(super) fn stop(&self) -> Result<(), SystemdError> {
        let mut bus = Bus::connect()?;
        let mut arguments = Writer::default();
        arguments.string(&self.unit);
        match bus.call("GetUnit", "s", &arguments) {
            Err(BusError::Method { .. }) => return Ok(()),
            other => drop(other?),
        }
        let mut arguments = Writer::default();
        let kill = libc::SIGKILL.cast_unsigned();
        arguments.string(&self.unit).string("all").u32(kill);
        // There may be nothing to kill.
        match bus.call("KillUnit", "ssi", &arguments) {
            Err(BusError::Method { .. }) => {}
            other => drop(other?),
        }
        let mut arguments = Writer::default();
        arguments.string(&self.unit).string("replace");
        match bus.run("StopUnit", "ss", &arguments) {
            // Gone in the meantime.
            Err(BusError::Method { .. }) => Ok(()),
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_slice_prefix_and_name() {
        let scope = |unit: &str, slice: &str| Scope {
            unit: unit.into(),
            slice: slice.into(),
        };
        let parse = |path: &str| Scope::parse(path.as_ref());
        let expected = scope("libpod-c1.scope", "machine.slice");
        assert_eq!(parse("machine.slice:libpod:c1").unwrap(), expected);
        let default = parse(":docker:c1").unwrap();
        assert_eq!(default.unit, "docker-c1.scope");
        assert!(["system.slice", "user.slice"].contains(&&*default.slice));
        for path in ["/engine/c1", "docker:c1", "a:b:c:d"] {
            assert!(matches!(parse(path), Err(SystemdError::Path)), "{path}");
        }
    }
}
