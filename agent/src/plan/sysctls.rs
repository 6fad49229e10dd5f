//! Kernel parameters.

use std::collections::BTreeMap;

use super::{PlanError, invalid};

/// One kernel parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sysctl {
    /// File below `/proc/sys`.
    pub(crate) file: String,
    /// What is written to it.
    pub(crate) value: String,
}

/// Parameters outside the namespaces belong to all containers of the sandbox,
/// as they belong to all of a host elsewhere: a container may not set them.
const NAMESPACED: [&str; 7] = [
    "net/",
    "fs/mqueue/",
    "kernel/msg",
    "kernel/sem",
    "kernel/shm",
    "kernel/domainname",
    "kernel/hostname",
];

pub(super) fn plan(sysctls: &BTreeMap<String, String>) -> Result<Vec<Sysctl>, PlanError> {
    sysctls
        .iter()
        .map(|(name, value)| {
            let file = file_of(name);
            let odd = file.split('/').any(|part| part.is_empty() || part == "..");
            if odd || !NAMESPACED.iter().any(|prefix| file.starts_with(prefix)) {
                let reason = "is not a parameter of a namespace";
                return Err(invalid("linux.sysctl", &name, reason));
            }
            Ok(Sysctl {
                file,
                value: value.clone(),
            })
        })
        .collect()
}

/// As sysctl(8) has it: the separator is whichever of `.` and `/` comes first,
/// and the other stands for itself (`net.ipv4.conf.eth0/1.forwarding`).
fn file_of(name: &str) -> String {
    let dotted = name
        .find(['.', '/'])
        .is_some_and(|at| name[at..].starts_with('.'));
    if !dotted {
        return name.to_owned();
    }
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Result<Vec<String>, PlanError> {
        let sysctls = names
            .iter()
            .map(|name| (name.to_string(), "1".to_string()))
            .collect();
        Ok(plan(&sysctls)?
            .into_iter()
            .map(|sysctl| sysctl.file)
            .collect())
    }

    #[test]
    fn names_become_files() {
        assert_eq!(
            files(&["net.ipv4.ip_forward", "net.ipv4.conf.eth0/1.forwarding"]).unwrap(),
            ["net/ipv4/conf/eth0.1/forwarding", "net/ipv4/ip_forward"]
        );
        assert_eq!(files(&["kernel/shmmax"]).unwrap(), ["kernel/shmmax"]);
    }

    #[test]
    fn what_all_containers_share_is_refused() {
        for name in [
            "vm.swappiness",
            "kernel.core_pattern",
            "",
            "net",
            "net/../vm/x",
            "net..x",
        ] {
            assert!(files(&[name]).is_err(), "{name}");
        }
    }
}
