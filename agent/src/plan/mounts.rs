//! Mount options, as mount(8) names them, sorted into what the kernel's mount
//! API takes: attributes of the mount, its propagation, parameters of the file
//! system.

use std::path::PathBuf;

use rustix::mount::{MountAttrFlags, MountPropagationFlags};

use super::{PlanError, invalid};
use crate::config::{Linux, Mount};

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
        parameters: Vec<(String, Option<String>)>,
    },
    /// A directory or file of the guest.
    Bind {
        /// The directory or file.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
}

/// A change to the attributes of a mount; see `mount_setattr(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// What to set.
    pub(crate) set: MountAttrFlags,
    /// What to clear, before.
    pub(crate) clear: MountAttrFlags,
}

impl Attributes {
    /// No change.
    pub(crate) const NONE: Self = Self {
        set: MountAttrFlags::empty(),
        clear: MountAttrFlags::empty(),
    };

    /// Makes a mount read-only.
    pub(crate) const READ_ONLY: Self = Self {
        set: MountAttrFlags::MOUNT_ATTR_RDONLY,
        clear: MountAttrFlags::empty(),
    };

    fn apply(&mut self, change: Attributes) {
        self.set = (self.set - change.clear) | change.set;
        self.clear = (self.clear - change.set) | change.clear;
    }
}

/// How mount events propagate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Propagation {
    /// One of the four kinds.
    pub(crate) kind: MountPropagationFlags,
    /// Also for the mounts below.
    pub(crate) recursive: bool,
}

/// What one option means.
enum Meaning {
    Nothing,
    Bind { recursive: bool },
    Attributes(Attributes),
    RecursiveAttributes(Attributes),
    Propagation(Propagation),
    Unsupported,
    Parameter,
}

pub(super) fn plan(mounts: &[Mount]) -> Result<Vec<MountPlan>, PlanError> {
    mounts.iter().map(plan_one).collect()
}

/// `linux.rootfsPropagation`.
pub(super) fn rootfs_propagation(linux: &Linux) -> Result<Option<Propagation>, PlanError> {
    match linux.rootfs_propagation.as_deref() {
        None | Some("") => Ok(None),
        Some(name) => match propagation(name) {
            Some(propagation) => Ok(Some(propagation)),
            None => Err(invalid(
                "linux.rootfsPropagation",
                &name,
                "is not a propagation",
            )),
        },
    }
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
    };
    for option in &mount.options {
        apply(&mut plan, option)?;
    }
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
    }
}

fn apply(plan: &mut MountPlan, option: &str) -> Result<(), PlanError> {
    match meaning(option) {
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

fn meaning(option: &str) -> Meaning {
    if let Some(attributes) = attribute(option) {
        return Meaning::Attributes(attributes);
    }
    if let Some(propagation) = propagation(option) {
        return Meaning::Propagation(propagation);
    }
    match option {
        "bind" => Meaning::Bind { recursive: false },
        "rbind" => Meaning::Bind { recursive: true },
        // What is the default anyway, or says nothing to a kernel of today.
        "" | "defaults" | "async" | "nomand" | "loud" | "silent" | "noiversion" | "iversion"
        | "nolazytime" | "auto" | "noauto" | "user" | "nouser" => Meaning::Nothing,
        "remount" | "tmpcopyup" | "idmap" | "ridmap" => Meaning::Unsupported,
        _ => match option.strip_prefix('r').and_then(attribute) {
            Some(attributes) => Meaning::RecursiveAttributes(attributes),
            None => Meaning::Parameter,
        },
    }
}

/// Attributes of a mount by name. With an `r` before it, each one is also a
/// recursive option (`rro`, `rnosuid`, …).
fn attribute(name: &str) -> Option<Attributes> {
    let none = MountAttrFlags::empty();
    let set = |set| Attributes { set, clear: none };
    let clear = |clear| Attributes { set: none, clear };
    // One of several policies: the kernel takes a new one only with the whole
    // field cleared, the bits that are set included.
    let atime = |set| Attributes {
        set,
        clear: MountAttrFlags::MOUNT_ATTR__ATIME,
    };
    Some(match name {
        "ro" => set(MountAttrFlags::MOUNT_ATTR_RDONLY),
        "rw" => clear(MountAttrFlags::MOUNT_ATTR_RDONLY),
        "nosuid" => set(MountAttrFlags::MOUNT_ATTR_NOSUID),
        "suid" => clear(MountAttrFlags::MOUNT_ATTR_NOSUID),
        "nodev" => set(MountAttrFlags::MOUNT_ATTR_NODEV),
        "dev" => clear(MountAttrFlags::MOUNT_ATTR_NODEV),
        "noexec" => set(MountAttrFlags::MOUNT_ATTR_NOEXEC),
        "exec" => clear(MountAttrFlags::MOUNT_ATTR_NOEXEC),
        "nosymfollow" => set(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
        "symfollow" => clear(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
        "nodiratime" => set(MountAttrFlags::MOUNT_ATTR_NODIRATIME),
        "diratime" => clear(MountAttrFlags::MOUNT_ATTR_NODIRATIME),
        "noatime" => atime(MountAttrFlags::MOUNT_ATTR_NOATIME),
        "strictatime" | "norelatime" => atime(MountAttrFlags::MOUNT_ATTR_STRICTATIME),
        "relatime" | "atime" | "nostrictatime" => atime(MountAttrFlags::MOUNT_ATTR_RELATIME),
        _ => return None,
    })
}

fn propagation(name: &str) -> Option<Propagation> {
    let kind = |name| {
        Some(match name {
            "shared" => MountPropagationFlags::SHARED,
            "slave" => MountPropagationFlags::DOWNSTREAM,
            "private" => MountPropagationFlags::PRIVATE,
            "unbindable" => MountPropagationFlags::UNBINDABLE,
            _ => return None,
        })
    };
    match (kind(name), name.strip_prefix('r').and_then(kind)) {
        (Some(kind), _) => Some(Propagation {
            kind,
            recursive: false,
        }),
        (None, Some(kind)) => Some(Propagation {
            kind,
            recursive: true,
        }),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
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
                r#"{"destination": "/a", "type": "tmpfs", "options": ["tmpcopyup"]}"#,
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
