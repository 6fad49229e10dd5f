//! Which namespaces a container has of its own, joins, or shares with the guest.

use std::fmt::Write;
use std::path::PathBuf;

use rustix::process::Uid;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};

use super::{PlanError, invalid};
use crate::config::{IdMapping, Linux, NamespaceKind, TimeOffset};

/// The namespaces of a container.
#[derive(Debug, Clone)]
pub(crate) struct Namespaces {
    /// Made anew.
    pub(crate) new: ThreadNameSpaceType,
    /// Joined by path, in the specification's order.
    pub(crate) join: Vec<(LinkNameSpaceType, PathBuf)>,
    /// Id mappings of a new user namespace.
    pub(crate) id_maps: IdMaps,
    /// Text for `timens_offsets`; empty if clocks are not shifted.
    pub(crate) time_offsets: String,
}

/// Texts for `uid_map` and `gid_map`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdMaps {
    /// User ids.
    pub(crate) uid: String,
    /// Group ids.
    pub(crate) gid: String,
    uids: Vec<IdMapping>,
}

impl Namespaces {
    pub(super) fn new(linux: &Linux) -> Result<Self, PlanError> {
        let mut new = ThreadNameSpaceType::empty();
        let mut join = Vec::new();
        let mut seen = ThreadNameSpaceType::empty();
        for namespace in &linux.namespaces {
            let (flag, link) = kernel_types(namespace.kind);
            if seen.contains(flag) {
                let kind = format!("{:?}", namespace.kind).to_lowercase();
                return Err(invalid("linux.namespaces", &kind, "is there twice"));
            }
            seen |= flag;
            match &namespace.path {
                Some(path) if !path.as_os_str().is_empty() => join.push((link, path.clone())),
                _ => new |= flag,
            }
        }
        let namespaces = Self {
            new,
            join,
            id_maps: IdMaps {
                uid: id_map(&linux.uid_mappings),
                gid: id_map(&linux.gid_mappings),
                uids: linux.uid_mappings.clone(),
            },
            time_offsets: time_offsets(linux)?,
        };
        namespaces.check()?;
        Ok(namespaces)
    }

    /// All namespaces in which the container is not the guest's own, as far
    /// as a further process of it joins them after it was forked.
    pub(crate) fn to_join_for_exec(&self) -> ThreadNameSpaceType {
        let joined = self.join.iter().map(|(link, _)| thread_type(*link));
        joined.fold(self.new, |all, one| all | one) - ThreadNameSpaceType::PROCESS_ID
    }

    /// What a user id of the container is outside its user namespace. One that
    /// is not mapped cannot be set later, which will be told then.
    pub(crate) fn uid_outside(&self, uid: Uid) -> Uid {
        if !self.new.contains(ThreadNameSpaceType::USER) {
            return uid;
        }
        let outside = |mapping: &IdMapping| {
            let offset = uid.as_raw().checked_sub(mapping.container_id)?;
            (offset < mapping.size).then(|| mapping.host_id.checked_add(offset))?
        };
        self.id_maps
            .uids
            .iter()
            .find_map(outside)
            .map_or(uid, Uid::from_raw)
    }

    /// Whether the container's network is the guest's own.
    pub(crate) fn shares_network(&self) -> bool {
        !self.new.contains(ThreadNameSpaceType::NETWORK) && !self.joins(LinkNameSpaceType::Network)
    }

    /// Whether the container has a pid namespace other than the guest's.
    pub(crate) fn has_pid_namespace(&self) -> bool {
        self.new.contains(ThreadNameSpaceType::PROCESS_ID) || self.pid_namespace().is_some()
    }

    /// The pid namespace to join, if one is named.
    pub(crate) fn pid_namespace(&self) -> Option<&PathBuf> {
        let pid = |(link, _): &&(LinkNameSpaceType, _)| *link == LinkNameSpaceType::ProcessID;
        self.join.iter().find(pid).map(|(_, path)| path)
    }

    fn joins(&self, link: LinkNameSpaceType) -> bool {
        self.join.iter().any(|(joined, _)| *joined == link)
    }

    fn check(&self) -> Result<(), PlanError> {
        if !self.new.contains(ThreadNameSpaceType::MOUNT) {
            return Err(PlanError::Missing(
                "linux.namespaces: a new mount namespace",
            ));
        }
        if self.joins(LinkNameSpaceType::User) {
            let field = "linux.namespaces: the path of a user namespace";
            return Err(PlanError::Unsupported { field });
        }
        let has_user = self.new.contains(ThreadNameSpaceType::USER);
        if has_user && (self.id_maps.uid.is_empty() || self.id_maps.gid.is_empty()) {
            return Err(PlanError::Missing("linux.uidMappings or linux.gidMappings"));
        }
        if !self.time_offsets.is_empty() && !self.new.contains(ThreadNameSpaceType::TIME) {
            return Err(PlanError::Missing("linux.namespaces: a new time namespace"));
        }
        Ok(())
    }
}

fn kernel_types(kind: NamespaceKind) -> (ThreadNameSpaceType, LinkNameSpaceType) {
    let link = match kind {
        NamespaceKind::Pid => LinkNameSpaceType::ProcessID,
        NamespaceKind::Network => LinkNameSpaceType::Network,
        NamespaceKind::Mount => LinkNameSpaceType::Mount,
        NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        NamespaceKind::User => LinkNameSpaceType::User,
        NamespaceKind::Cgroup => LinkNameSpaceType::ControlGroup,
        NamespaceKind::Time => LinkNameSpaceType::Time,
    };
    (thread_type(link), link)
}

/// Both types hold the same `CLONE_NEW*` constants.
fn thread_type(link: LinkNameSpaceType) -> ThreadNameSpaceType {
    ThreadNameSpaceType::from_bits_retain(link as u32)
}

fn id_map(mappings: &[IdMapping]) -> String {
    mappings.iter().fold(String::new(), |mut text, mapping| {
        let IdMapping {
            container_id,
            host_id,
            size,
        } = mapping;
        let _ = writeln!(text, "{container_id} {host_id} {size}");
        text
    })
}

fn time_offsets(linux: &Linux) -> Result<String, PlanError> {
    let mut text = String::new();
    for (clock, TimeOffset { secs, nanosecs }) in &linux.time_offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(invalid(
                "linux.timeOffsets",
                &clock,
                "is not a clock of a namespace",
            ));
        }
        let _ = writeln!(text, "{clock} {secs} {nanosecs}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Namespaces, PlanError> {
        Namespaces::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn new_and_joined_namespaces_are_told_apart() {
        let namespaces = plan(
            r#"{"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "uts", "path": ""},
                {"type": "network", "path": "/proc/7/ns/net"}]}"#,
        )
        .unwrap();
        assert_eq!(
            namespaces.new,
            ThreadNameSpaceType::MOUNT
                | ThreadNameSpaceType::PROCESS_ID
                | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        );
        assert_eq!(namespaces.join.len(), 1);
        assert!(namespaces.has_pid_namespace());
        assert!(!namespaces.shares_network());
        assert_eq!(
            namespaces.to_join_for_exec(),
            ThreadNameSpaceType::MOUNT
                | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
                | ThreadNameSpaceType::NETWORK
        );
    }

    #[test]
    fn mappings_and_offsets_have_the_kernel_s_form() {
        let namespaces = plan(
            r#"{"namespaces": [{"type": "mount"}, {"type": "user"}, {"type": "time"}],
                "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1},
                                {"containerID": 1, "hostID": 100000, "size": 65535}],
                "gidMappings": [{"containerID": 0, "hostID": 0, "size": 4294967295}],
                "timeOffsets": {"boottime": {"secs": -3, "nanosecs": 5}}}"#,
        )
        .unwrap();
        assert_eq!(namespaces.id_maps.uid, "0 1000 1\n1 100000 65535\n");
        assert_eq!(namespaces.id_maps.gid, "0 0 4294967295\n");
        let outside = |uid| namespaces.uid_outside(Uid::from_raw(uid)).as_raw();
        assert_eq!(
            [outside(0), outside(1), outside(8)],
            [1000, 100_000, 100_007]
        );
        assert_eq!(namespaces.time_offsets, "boottime -3 5\n");
        assert!(namespaces.shares_network());
    }

    #[test]
    fn impossible_combinations_are_refused() {
        for json in [
            r#"{"namespaces": [{"type": "pid"}]}"#,
            r#"{"namespaces": [{"type": "mount", "path": "/proc/7/ns/mnt"}]}"#,
            r#"{"namespaces": [{"type": "mount"}, {"type": "mount"}]}"#,
            r#"{"namespaces": [{"type": "mount"}, {"type": "user"}]}"#,
            r#"{"namespaces": [{"type": "mount"}, {"type": "user", "path": "/x"}]}"#,
            r#"{"namespaces": [{"type": "mount"}], "timeOffsets": {"monotonic": {"secs": 1}}}"#,
            r#"{"namespaces": [{"type": "mount"}, {"type": "time"}],
                "timeOffsets": {"realtime": {"secs": 1}}}"#,
        ] {
            assert!(plan(json).is_err(), "{json}");
        }
    }
}
