//! Device nodes, and who may use which device.

use std::path::PathBuf;

use rustix::fs::FileType;

use super::device_filter::{self, ALL, BLOCK, CHAR, MKNOD, READ, Rule, WRITE};
use super::{PlanError, invalid, mounts};
use crate::config::{Device, DeviceRule, Mount};

/// A device node to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceNode {
    /// Where, within the container's root.
    pub(crate) path: PathBuf,
    /// Character, block, or named pipe.
    pub(crate) kind: FileType,
    /// Major number.
    pub(crate) major: u32,
    /// Minor number.
    pub(crate) minor: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
}

/// More rules than this would not fit a program that the kernel takes.
const MAX_RULES: usize = 1024;

/// Nodes that every container has (`config-linux.md`, 'Default Devices').
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The nodes that every container has.
pub(crate) fn default_devices() -> Vec<DeviceNode> {
    DEFAULT
        .into_iter()
        .map(|(path, major, minor)| DeviceNode {
            path: path.into(),
            kind: FileType::CharacterDevice,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect()
}

/// The nodes to make: the configuration's own replace default ones of the same
/// path. None if the user brings a `/dev` of their own.
pub(super) fn plan(
    devices: &[Device],
    mounts: &[Mount],
) -> Result<Option<Vec<DeviceNode>>, PlanError> {
    if mounts
        .iter()
        .any(|mount| mounts::is_dev(&mount.destination) && mounts::is_bind(mount))
    {
        return Ok(None);
    }
    let wanted: Vec<_> = devices.iter().map(node).collect::<Result<_, _>>()?;
    let mut nodes = default_devices();
    nodes.retain(|node| wanted.iter().all(|other| other.path != node.path));
    nodes.extend(wanted);
    Ok(Some(nodes))
}

/// The program for the cgroup: the configuration's rules, and after them what
/// every container may use.
pub(super) fn filter(rules: &[DeviceRule]) -> Result<Vec<u64>, PlanError> {
    if rules.len() > MAX_RULES {
        let reason = "are more rules than a device filter holds";
        return Err(invalid("linux.resources.devices", &rules.len(), reason));
    }
    let mut all: Vec<_> = rules.iter().map(rule).collect::<Result<_, _>>()?;
    all.extend(always_allowed());
    Ok(device_filter::program(&all))
}

/// Making nodes is harmless where using them is not allowed; besides the
/// default devices a container has terminals: its own `ptmx` and slaves.
fn always_allowed() -> impl Iterator<Item = Rule> {
    let char_device = |major, minor, access| Rule {
        allow: true,
        kind: Some(CHAR),
        major,
        minor,
        access,
    };
    let block_mknod = Rule {
        kind: Some(BLOCK),
        ..char_device(None, None, MKNOD)
    };
    [char_device(None, None, MKNOD), block_mknod]
        .into_iter()
        .chain(
            DEFAULT
                .into_iter()
                .map(move |(_, major, minor)| char_device(Some(major), Some(minor), ALL)),
        )
        .chain([
            char_device(Some(5), Some(2), ALL),
            char_device(Some(136), None, ALL),
        ])
}

fn rule(rule: &DeviceRule) -> Result<Rule, PlanError> {
    const FIELD: &str = "linux.resources.devices";
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => None,
        Some("c" | "u") => Some(CHAR),
        Some("b") => Some(BLOCK),
        Some(other) => return Err(invalid(FIELD, &other, "is not a type of device")),
    };
    Ok(Rule {
        allow: rule.allow,
        kind,
        major: number(FIELD, rule.major)?,
        minor: number(FIELD, rule.minor)?,
        access: access(rule.access.as_deref().unwrap_or_default())?,
    })
}

fn access(letters: &str) -> Result<u8, PlanError> {
    if letters.is_empty() {
        return Ok(ALL);
    }
    letters.chars().try_fold(0, |access, letter| match letter {
        'r' => Ok(access | READ),
        'w' => Ok(access | WRITE),
        'm' => Ok(access | MKNOD),
        _ => Err(invalid(
            "linux.resources.devices",
            &letters,
            "is not an access: r, w, m",
        )),
    })
}

fn number(field: &'static str, value: Option<i64>) -> Result<Option<u32>, PlanError> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(invalid(field, &value, "is not a device number")),
        },
    }
}

fn node(device: &Device) -> Result<DeviceNode, PlanError> {
    const FIELD: &str = "linux.devices";
    if !device.path.is_absolute() {
        return Err(invalid(
            FIELD,
            &device.path.display(),
            "is not an absolute path",
        ));
    }
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => return Err(invalid(FIELD, &other, "is not a type of device")),
    };
    Ok(DeviceNode {
        path: device.path.clone(),
        kind,
        major: number(FIELD, device.major)?.unwrap_or_default(),
        minor: number(FIELD, device.minor)?.unwrap_or_default(),
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        uid: device.uid.unwrap_or_default(),
        gid: device.gid.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn own_nodes_replace_default_ones() {
        let devices: Vec<Device> = serde_json::from_str(
            r#"[{"type": "c", "path": "/dev/null", "major": 1, "minor": 3, "fileMode": 384},
                {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "uid": 5}]"#,
        )
        .unwrap();
        let nodes = plan(&devices, &[]).unwrap().unwrap();
        assert_eq!(nodes.len(), 7);
        let null = nodes
            .iter()
            .find(|node| node.path == Path::new("/dev/null"))
            .unwrap();
        assert_eq!(null.mode, 0o600);
    }

    #[test]
    fn a_dev_of_the_user_s_is_left_alone() {
        let mounts: Vec<Mount> = serde_json::from_str(
            r#"[{"destination": "/dev/", "source": "/run/shared/a/0", "options": ["rbind"]}]"#,
        )
        .unwrap();
        assert_eq!(plan(&[], &mounts).unwrap(), None);
    }

    #[test]
    fn rules_are_read() {
        let read = |json: &str| rule(&serde_json::from_str(json).unwrap());
        assert_eq!(
            read(r#"{"allow": false, "access": "rwm"}"#).unwrap(),
            Rule {
                allow: false,
                kind: None,
                major: None,
                minor: None,
                access: ALL
            }
        );
        assert_eq!(
            read(r#"{"allow": true, "type": "c", "major": 10, "minor": -1, "access": "r"}"#)
                .unwrap(),
            Rule {
                allow: true,
                kind: Some(CHAR),
                major: Some(10),
                minor: None,
                access: READ
            }
        );
        for json in [
            r#"{"allow": true, "type": "x"}"#,
            r#"{"allow": true, "access": "x"}"#,
            r#"{"allow": true, "major": -2}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
