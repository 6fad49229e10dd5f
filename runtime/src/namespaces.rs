//! Namespaces that a configuration names by paths.
//!
//! They are the host's kernel's. Its engine may have prepared them, but a guest has
//! no use for any but the network's, and makes one of the same kind. A path that does
//! not lead to such a namespace is a mistake all the same (OCI runtime specification,
//! config-linux.md, "Namespaces").

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::sys;

/// Why a path is not that of a namespace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    /// There is nothing to be opened.
    #[error("cannot open the {kind} namespace {}", path.display())]
    Open {
        /// What it was to be, as the kernel calls it.
        kind: &'static str,
        /// Where.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is not a {kind} namespace", path.display())]
    Other {
        /// What it was to be.
        kind: &'static str,
        /// Where.
        path: PathBuf,
    },
}

/// Checks that each namespace with a path is there, and of its type.
pub(crate) fn check(spec: &Spec) -> Result<(), NamespaceError> {
    let namespaces = spec
        .linux()
        .iter()
        .filter_map(|linux| linux.namespaces().as_ref());
    for namespace in namespaces.flatten() {
        match namespace.path() {
            Some(path) if !path.as_os_str().is_empty() => {
                check_path(Kind::of(namespace.typ()), path)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_path(kind: Kind, path: &Path) -> Result<(), NamespaceError> {
    let failed = |source| NamespaceError::Open {
        kind: kind.name,
        path: path.into(),
        source,
    };
    // Namespaces are regular files: a pipe would wait for somebody to write.
    let is_file = fs::metadata(path).map_err(failed)?.is_file();
    if is_file {
        let namespace = File::open(path).map_err(failed)?;
        if sys::namespace_type(&namespace).is_ok_and(|flag| flag == kind.flag) {
            return Ok(());
        }
    }
    Err(NamespaceError::Other {
        kind: kind.name,
        path: path.into(),
    })
}

/// A type of namespaces, as the kernel has it (`namespaces(7)`).
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    flag: libc::c_int,
}

impl Kind {
    fn of(kind: LinuxNamespaceType) -> Self {
        let (name, flag) = match kind {
            LinuxNamespaceType::Mount => ("mnt", libc::CLONE_NEWNS),
            LinuxNamespaceType::Cgroup => ("cgroup", libc::CLONE_NEWCGROUP),
            LinuxNamespaceType::Uts => ("uts", libc::CLONE_NEWUTS),
            LinuxNamespaceType::Ipc => ("ipc", libc::CLONE_NEWIPC),
            LinuxNamespaceType::User => ("user", libc::CLONE_NEWUSER),
            LinuxNamespaceType::Pid => ("pid", libc::CLONE_NEWPID),
            LinuxNamespaceType::Network => ("net", libc::CLONE_NEWNET),
            LinuxNamespaceType::Time => ("time", libc::CLONE_NEWTIME),
        };
        Self { name, flag }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(kind: &str, path: &str) -> Result<(), NamespaceError> {
        let spec = json!({
            "ociVersion": "1.0.2",
            "linux": { "namespaces": [{ "type": kind, "path": path }, { "type": "mount" }] },
        });
        check(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn namespace_of_its_type_is_accepted() {
        outcome("network", "/proc/self/ns/net").unwrap();
        outcome("pid", "/proc/self/ns/pid_for_children").unwrap();
        outcome("uts", "").unwrap();
    }

    #[test]
    fn anything_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let pipe = pipe.to_str().unwrap();
        for path in ["/proc/self/ns/ipc", "/etc/passwd", "/proc/self/ns", pipe] {
            let error = outcome("uts", path).unwrap_err();
            assert!(matches!(error, NamespaceError::Other { .. }), "{path}");
            assert!(error.to_string().contains(path));
        }
        let error = outcome("uts", "/no/such/file").unwrap_err();
        assert!(matches!(error, NamespaceError::Open { .. }));
    }
}
