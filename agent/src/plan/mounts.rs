//! What is mounted where.

use std::path::{Path, PathBuf};

use super::mount_options::{self, Attributes, Meaning, Propagation, READ_ONLY};
use super::{PlanError, invalid};
use crate::config::{Linux, Mount};

const TMPFS: &str = "tmpfs";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountPlan {
    /// Where, within the container's root.
    pub(crate) destination: PathBuf,
    /// What.
    pub(crate) kind: MountKind,
    /// Attributes of this mount alone.
    pub(crate) attributes: Attributes,
    /// Attributes of this mount and those below it.
    pub(crate) recursive_attributes: Attributes,
    /// Propagation, if not private.
    pub(crate) propagation: Option<Propagation>,
    /// Made read-only only when all else is done: mount points and device
    /// nodes are still to be made in it.
    pub(crate) read_only_at_last: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MountKind {
    /// A file system.
    FileSystem {
        /// Its type.
        fs_type: String,
        /// What it is made from.
        source: Option<String>,
        /// Parameters: a name, and a value if there was a `=`.
        parameters: Vec<Parameter>,
        /// Whether it starts as a copy of the directory that it covers.
        copy_up: bool,
    },
    /// A directory or file of the guest.
    Bind {
        /// The directory or file.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
}

/// A file system's parameter: a name, and a value unless it is a flag.
pub(crate) type Parameter = (String, Option<String>);

impl MountPlan {
    /// Whether this is a tmpfs whose mode is nobody's choice yet.
    pub(crate) fn is_tmpfs_without_mode(&self) -> bool {
        match &self.kind {
            MountKind::FileSystem {
                fs_type,
                parameters,
                ..
            } => fs_type == TMPFS && !parameters.iter().any(|(name, _)| name == "mode"),
            MountKind::Bind { .. } => false,
        }
    }

    fn defer_read_only(&mut self) {
        let MountKind::FileSystem { fs_type, .. } = &self.kind else {
            return;
        };
        let is_filled_later = fs_type == TMPFS || is_dev(&self.destination);
        if is_filled_later && self.attributes.set.contains(READ_ONLY) {
            self.attributes.set -= READ_ONLY;
            self.read_only_at_last = true;
        }
    }
}

pub(super) fn plan(mounts: &[Mount]) -> Result<Vec<MountPlan>, PlanError> {
    mounts.iter().map(plan_one).collect()
}

/// `linux.rootfsPropagation`.
pub(super) fn rootfs_propagation(linux: &Linux) -> Result<Option<Propagation>, PlanError> {
    match linux.rootfs_propagation.as_deref() {
        None | Some("") => Ok(None),
        Some(name) => match mount_options::propagation(name) {
            Some(propagation) => Ok(Some(propagation)),
            None => Err(invalid(
                "linux.rootfsPropagation",
                &name,
                "is not a propagation",
            )),
        },
    }
}

/// Whether a path is that of the container's device nodes.
pub(super) fn is_dev(path: &Path) -> bool {
    path.components().eq(Path::new("/dev").components())
}

/// Whether a mount of the configuration binds something.
pub(super) fn is_bind(mount: &Mount) -> bool {
    mount.kind == "bind"
        || mount
            .options
            .iter()
            .any(|option| option == "bind" || option == "rbind")
}

fn plan_one(mount: &Mount) -> Result<MountPlan, PlanError> {
    check(mount)?;
    let mut plan = MountPlan {
        destination: mount.destination.clone(),
        kind: if is_bind(mount) {
            bind(mount)?
        } else {
            file_system(mount)
        },
        attributes: Attributes::NONE,
        recursive_attributes: Attributes::NONE,
        propagation: None,
        read_only_at_last: false,
    };
    for option in &mount.options {
        apply(&mut plan, option)?;
    }
    plan.defer_read_only();
    Ok(plan)
}

fn check(mount: &Mount) -> Result<(), PlanError> {
    let destination = &mount.destination;
    if destination.as_os_str().is_empty() {
        return Err(PlanError::Missing("mounts: destination"));
    }
    if destination
        .components()
        .all(|part| matches!(part, std::path::Component::RootDir))
    {
        let reason = "would hide the root file system";
        return Err(invalid(
            "mounts: destination",
            &destination.display(),
            reason,
        ));
    }
    if mount.uid_mappings.is_some() || mount.gid_mappings.is_some() {
        return Err(PlanError::Unsupported {
            field: "mounts: uidMappings or gidMappings",
        });
    }
    Ok(())
}

fn bind(mount: &Mount) -> Result<MountKind, PlanError> {
    let source = mount.source.as_deref().filter(|source| !source.is_empty());
    let source = source.ok_or(PlanError::Missing("mounts: source of a bind mount"))?;
    Ok(MountKind::Bind {
        source: source.into(),
        recursive: false,
    })
}

fn file_system(mount: &Mount) -> MountKind {
    MountKind::FileSystem {
        // The guest has only the unified hierarchy, whatever it is called.
        fs_type: match mount.kind.as_str() {
            "cgroup" => "cgroup2".into(),
            other => other.to_owned(),
        },
        source: mount.source.clone().filter(|source| !source.is_empty()),
        parameters: Vec::new(),
        copy_up: false,
    }
}

fn apply(plan: &mut MountPlan, option: &str) -> Result<(), PlanError> {
    match mount_options::meaning(option) {
        Meaning::Nothing => {}
        Meaning::Unsupported => {
            return Err(invalid(
                "mounts: options",
                &option,
                "is not supported in the guest",
            ));
        }
        Meaning::Attributes(change) => plan.attributes.apply(change),
        Meaning::RecursiveAttributes(change) => plan.recursive_attributes.apply(change),
        Meaning::Propagation(propagation) => plan.propagation = Some(propagation),
        Meaning::Bind { recursive: wanted } => {
            if let MountKind::Bind { recursive, .. } = &mut plan.kind {
                *recursive |= wanted;
            }
        }
        Meaning::CopyUp => match &mut plan.kind {
            MountKind::FileSystem {
                fs_type, copy_up, ..
            } if fs_type == TMPFS => *copy_up = true,
            _ => {
                let reason = "has a meaning for a tmpfs only";
                return Err(invalid("mounts: options", &option, reason));
            }
        },
        Meaning::Parameter => match &mut plan.kind {
            MountKind::FileSystem { parameters, .. } => {
                let (name, value) = match option.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (option, None),
                };
                parameters.push((name.to_owned(), value));
            }
            MountKind::Bind { .. } => {
                return Err(invalid(
                    "mounts: options",
                    &option,
                    "has no meaning for a bind mount",
                ));
            }
        },
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::mount::{MountAttrFlags, MountPropagationFlags};

    use super::*;

    fn plan_of(json: &str) -> Result<MountPlan, PlanError> {
        plan_one(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn tmpfs_options_are_sorted() {
        let plan = plan_of(
            r#"{"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k", "noswap"]}"#,
        )
        .unwrap();
        assert_eq!(
            plan.kind,
            MountKind::FileSystem {
                fs_type: "tmpfs".into(),
                source: Some("tmpfs".into()),
                parameters: vec![
                    ("mode".into(), Some("755".into())),
                    ("size".into(), Some("65536k".into())),
                    ("noswap".into(), None),
                ],
                copy_up: false,
            }
        );
        assert_eq!(
            plan.attributes.set,
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME
        );
    }

    #[test]
    fn bind_options_are_sorted() {
        let plan = plan_of(
            r#"{"destination": "/data", "source": "/run/shared/c/1",
                "options": ["rbind", "ro", "rprivate", "rnosuid"]}"#,
        )
        .unwrap();
        assert_eq!(
            plan.kind,
            MountKind::Bind {
                source: "/run/shared/c/1".into(),
                recursive: true
            }
        );
        assert_eq!(plan.attributes, Attributes::READ_ONLY);
        assert_eq!(
            plan.recursive_attributes.set,
            MountAttrFlags::MOUNT_ATTR_NOSUID
        );
        let propagation = plan.propagation.unwrap();
        assert_eq!(propagation.kind, MountPropagationFlags::PRIVATE);
        assert!(propagation.recursive);
    }

    #[test]
    fn later_options_override_earlier_ones() {
        let plan =
            plan_of(r#"{"destination": "/a", "type": "tmpfs", "options": ["ro", "rw"]}"#).unwrap();
        assert!(plan.attributes.set.is_empty());
        assert_eq!(plan.attributes.clear, MountAttrFlags::MOUNT_ATTR_RDONLY);
    }

    #[test]
    fn a_policy_on_access_times_replaces_the_whole_field() {
        let plan = plan_of(
            r#"{"destination": "/a", "source": "/b",
                "options": ["bind", "strictatime", "rw", "noatime", "rnorelatime"]}"#,
        )
        .unwrap();
        let policies = MountAttrFlags::MOUNT_ATTR__ATIME;
        assert_eq!(plan.attributes.set, MountAttrFlags::MOUNT_ATTR_NOATIME);
        assert!(plan.attributes.clear.contains(policies));
        assert_eq!(
            plan.recursive_attributes.set,
            MountAttrFlags::MOUNT_ATTR_STRICTATIME
        );
        assert!(plan.recursive_attributes.clear.contains(policies));
    }

    #[test]
    fn what_is_filled_later_is_read_only_at_last() {
        let read_only = |kind: &str, destination: &str| {
            let json = format!(
                r#"{{"destination": "{destination}", "type": "{kind}", "source": "/s",
                    "options": ["ro"]}}"#
            );
            let plan = plan_of(&json).unwrap();
            (
                plan.attributes.set.contains(READ_ONLY),
                plan.read_only_at_last,
            )
        };
        for (kind, destination) in [("tmpfs", "/run"), ("tmpfs", "/dev"), ("devtmpfs", "/dev/")] {
            assert_eq!(read_only(kind, destination), (false, true), "{kind}");
        }
        for (kind, destination) in [("proc", "/proc"), ("bind", "/dev"), ("bind", "/a")] {
            assert_eq!(read_only(kind, destination), (true, false), "{kind}");
        }
    }

    #[test]
    fn a_tmpfs_may_be_a_copy_and_without_a_mode() {
        let plan = plan_of(
            r#"{"destination": "/run", "type": "tmpfs",
                "options": ["rw", "rprivate", "nosuid", "nodev", "tmpcopyup"]}"#,
        )
        .unwrap();
        assert!(plan.is_tmpfs_without_mode());
        assert!(matches!(
            plan.kind,
            MountKind::FileSystem { copy_up: true, .. }
        ));
        let plan = plan_of(r#"{"destination": "/a", "type": "tmpfs", "options": ["mode=700"]}"#);
        assert!(!plan.unwrap().is_tmpfs_without_mode());
    }

    #[test]
    fn cgroup_is_the_unified_hierarchy() {
        let plan = plan_of(r#"{"destination": "/sys/fs/cgroup", "type": "cgroup"}"#).unwrap();
        assert!(matches!(plan.kind, MountKind::FileSystem { fs_type, .. } if fs_type == "cgroup2"));
    }

    #[test]
    fn what_cannot_be_mounted_is_refused() {
        for (json, word) in [
            (r#"{"type": "tmpfs"}"#, "destination"),
            (r#"{"destination": "//", "type": "tmpfs"}"#, "root"),
            (r#"{"destination": "/a", "type": "bind"}"#, "source"),
            (
                r#"{"destination": "/a", "type": "proc", "options": ["tmpcopyup"]}"#,
                "tmpcopyup",
            ),
            (
                r#"{"destination": "/a", "type": "bind", "source": "/b", "options": ["mode=1"]}"#,
                "mode=1",
            ),
            (
                r#"{"destination": "/a", "type": "bind", "source": "/b", "uidMappings": []}"#,
                "uidMappings",
            ),
        ] {
            let error = plan_of(json).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
