//! The parts of an OCI configuration that the guest acts on.
//!
//! Types of the agent's own, after the OCI runtime specification 1.2
//! (`config.md`, `config-linux.md`). The host has read the document with a
//! complete set of types; here stands only what has an effect in the guest, or
//! must be refused because it would silently have none. Fields that are absent
//! below have no meaning in the guest: `ociVersion`, the labels
//! of security modules that the guest's kernel lacks, `seccomp` (it arrives
//! compiled), `cgroupsPath` (the agent's cgroups are its own affair).

mod linux;
mod process;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

pub(crate) use linux::{
    BlockIo, Cpu, Device, DeviceRule, IdMapping, Linux, Memory, NamespaceKind, Personality,
    PersonalityDomain, Pids, Resources, TimeOffset,
};
pub(crate) use process::{Capabilities, IoPriority, Process, Rlimit, Scheduler};

/// A `config.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Config {
    /// The container's root file system.
    pub(crate) root: Root,
    /// What init executes.
    pub(crate) process: Option<Process>,
    /// Host name, in a UTS namespace of the container's own.
    pub(crate) hostname: Option<String>,
    /// NIS domain name, likewise.
    pub(crate) domainname: Option<String>,
    /// File systems, in the order in which they are mounted.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) mounts: Vec<Mount>,
    /// Programs run at moments of the life cycle.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) hooks: Hooks,
    /// What its user has to say about it; for hooks.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Everything that only Linux has.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) linux: Linux,
}

/// `root`: where the root file system is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Root {
    /// A directory in the guest.
    pub(crate) path: PathBuf,
    /// Whether the container may not write to it.
    pub(crate) readonly: bool,
}

/// One of `mounts`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Mount {
    /// Where, within the container's root.
    pub(crate) destination: PathBuf,
    /// Type of file system; `bind` or empty with the options `bind`, `rbind`.
    #[serde(rename = "type", deserialize_with = "null_is_default")]
    pub(crate) kind: String,
    /// Device, name, or the path to bind.
    pub(crate) source: Option<String>,
    /// As mount(8) takes them.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) options: Vec<String>,
    /// For mounts with ids mapped.
    pub(crate) uid_mappings: Option<Vec<IdMapping>>,
    /// For mounts with ids mapped.
    pub(crate) gid_mappings: Option<Vec<IdMapping>>,
}

/// `hooks`, as far as they run in the guest. The others are the host's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Hooks {
    /// In the container, before its command.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) start_container: Vec<Hook>,
}

/// A program, as `execve` takes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Hook {
    /// The program.
    pub(crate) path: PathBuf,
    /// Its arguments, its name among them.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) args: Vec<String>,
    /// `NAME=value` each.
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) env: Vec<String>,
    /// Seconds it may take.
    pub(crate) timeout: Option<u64>,
}

/// JSON written by Go has `null` for an empty list.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_unknown_fields_are_taken() {
        let config: Config = serde_json::from_str(
            r#"{"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "mounts": null,
                "annotations": {"a": "b"}, "hooks": null, "linux": {"namespaces": null,
                "resources": {"devices": null}}, "process": {"cwd": "/", "args": null}}"#,
        )
        .unwrap();
        assert_eq!(config.root.path, PathBuf::from("rootfs"));
        assert!(config.process.unwrap().args.is_empty());
    }

    #[test]
    fn namespaces_have_the_specification_s_names() {
        let linux: Linux = serde_json::from_str(
            r#"{"namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/ns"},
                {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "user"},
                {"type": "cgroup"}, {"type": "time"}]}"#,
        )
        .unwrap();
        assert_eq!(linux.namespaces.len(), 8);
        assert_eq!(linux.namespaces[1].kind, NamespaceKind::Network);
        assert!(linux.namespaces[1].path.is_some());
    }
}
