//! Mount options, as mount(8) names them, sorted into what the kernel's mount
//! API takes: attributes of the mount, its propagation, parameters of the file
//! system.

use rustix::mount::{MountAttrFlags, MountPropagationFlags};

pub(super) const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

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
        set: READ_ONLY,
        clear: MountAttrFlags::empty(),
    };

    pub(super) fn apply(&mut self, change: Attributes) {
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
pub(super) enum Meaning {
    Nothing,
    Bind { recursive: bool },
    Attributes(Attributes),
    RecursiveAttributes(Attributes),
    Propagation(Propagation),
    CopyUp,
    Unsupported,
    Parameter,
}

pub(super) fn meaning(option: &str) -> Meaning {
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
        "tmpcopyup" => Meaning::CopyUp,
        "remount" | "idmap" | "ridmap" => Meaning::Unsupported,
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
        "ro" => set(READ_ONLY),
        "rw" => clear(READ_ONLY),
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

/// Propagation by name. With an `r` before it, also that of the mounts below.
pub(super) fn propagation(name: &str) -> Option<Propagation> {
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
