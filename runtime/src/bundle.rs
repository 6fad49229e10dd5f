//! OCI bundles: a directory with a `config.json` and a root file system.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capability, Hooks, Process, Spec};
use serde::Deserialize;
use serde_json::Value;

/// Longest `config.json`, in bytes: it must fit in one frame to the agent.
const MAX_CONFIG_LEN: u64 = bulkhead_protocol::frame::MAX_LEN as u64 / 2;

/// A bundle whose configuration has what a container needs.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    /// The bundle's directory, absolute and without symbolic links.
    pub(crate) path: PathBuf,
    /// The root file system's directory, likewise.
    pub(crate) rootfs: PathBuf,
    /// The configuration, as it was read.
    pub(crate) spec: Spec,
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    /// The directory is not there, or not in reach.
    #[error("cannot open the bundle {}", path.display())]
    Open {
        /// The bundle.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// The configuration is not there, or not in reach.
    #[error("cannot read {}; `bulkhead spec` writes one to start from", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// The configuration is unreasonably long.
    #[error("{} is longer than {MAX_CONFIG_LEN} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The configuration is not one.
    #[error("{} is not an OCI configuration", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// The configuration is of a version with other rules.
    #[error("{} is of OCI version {version:?}; versions 1.x are supported", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it claims.
        version: String,
    },
    /// The configuration lacks something.
    #[error("{} has no {what}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
    /// The root file system is not there, or not in reach.
    #[error("cannot use the root file system {}", path.display())]
    Rootfs {
        /// The directory.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
}

impl Bundle {
    /// Reads and checks the bundle at `path`.
    pub(crate) fn load(path: &Path) -> Result<Self, BundleError> {
        let path = fs::canonicalize(path).map_err(|source| BundleError::Open {
            path: path.into(),
            source,
        })?;
        let config = path.join("config.json");
        let spec = parse(&config)?;
        check(&config, &spec)?;
        let rootfs = find_rootfs(&path, &config, &spec)?;
        Ok(Self { path, rootfs, spec })
    }

    /// The process to run; [`Bundle::load`] has checked that there is one.
    pub(crate) fn process(&self) -> Option<&Process> {
        self.spec.process().as_ref()
    }

    /// What is to be done at moments of the container's life.
    pub(crate) fn hooks(&self) -> Option<&Hooks> {
        self.spec.hooks().as_ref()
    }

    /// Whether the process gets a terminal.
    pub(crate) fn wants_terminal(&self) -> bool {
        self.process().and_then(Process::terminal).unwrap_or(false)
    }
}

fn parse(path: &Path) -> Result<Spec, BundleError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_CONFIG_LEN + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| BundleError::Read {
        path: path.into(),
        source,
    })?;
    if bytes.len() as u64 > MAX_CONFIG_LEN {
        return Err(BundleError::TooLong { path: path.into() });
    }
    serde_json::from_slice(&bytes)
        .or_else(|error| parse_without_unknown_capabilities(&bytes).ok_or(error))
        .map_err(|source| BundleError::Parse {
            path: path.into(),
            source,
        })
}

/// Reads a configuration again that could not be read, for a name of a capability that
/// nobody knows is no reason to fail (OCI runtime specification, config.md, "Linux
/// Process"): it may be one of a newer kernel.
fn parse_without_unknown_capabilities(bytes: &[u8]) -> Option<Spec> {
    let mut config: Value = serde_json::from_slice(bytes).ok()?;
    let sets = config
        .pointer_mut("/process/capabilities")?
        .as_object_mut()?;
    for names in sets.values_mut().filter_map(Value::as_array_mut) {
        names.retain(|name| {
            let is_known = Capability::deserialize(name).is_ok();
            if !is_known {
                log::warn!("capability {name} is not known, and not granted");
            }
            is_known
        });
    }
    serde_json::from_value(config).ok()
}

fn check(path: &Path, spec: &Spec) -> Result<(), BundleError> {
    let missing = |what| {
        Err(BundleError::Missing {
            path: path.into(),
            what,
        })
    };
    if !spec.version().starts_with("1.") {
        let version = spec.version().clone();
        return Err(BundleError::Version {
            path: path.into(),
            version,
        });
    }
    let Some(process) = spec.process() else {
        return missing("process");
    };
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return missing("process.args");
    }
    if !process.cwd().is_absolute() {
        return missing("absolute process.cwd");
    }
    Ok(())
}

fn find_rootfs(bundle: &Path, config: &Path, spec: &Spec) -> Result<PathBuf, BundleError> {
    let Some(root) = spec.root() else {
        return Err(BundleError::Missing {
            path: config.into(),
            what: "root",
        });
    };
    let path = bundle.join(root.path());
    let resolve = || -> io::Result<PathBuf> {
        let resolved = fs::canonicalize(&path)?;
        if resolved.metadata()?.is_dir() {
            Ok(resolved)
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    };
    resolve().map_err(|source| BundleError::Rootfs {
        path: path.clone(),
        source,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::logging::chain;

    /// A bundle in a directory of its own.
    pub(crate) fn bundle_with(config: &Value) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("rootfs")).unwrap();
        fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        directory
    }

    /// The least that is a configuration.
    pub(crate) fn minimal() -> Value {
        json!({
            "ociVersion": "1.0.2",
            "root": { "path": "rootfs" },
            "process": { "args": ["sh"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
        })
    }

    fn error_of(config: &Value) -> BundleError {
        Bundle::load(bundle_with(config).path()).unwrap_err()
    }

    #[test]
    fn minimal_bundle_is_enough() {
        let directory = bundle_with(&minimal());
        let bundle = Bundle::load(directory.path()).unwrap();
        assert_eq!(bundle.rootfs, bundle.path.join("rootfs"));
        assert!(!bundle.wants_terminal());
    }

    #[test]
    fn each_fault_names_the_file() {
        let error = Bundle::load(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(chain(&error).contains("/nowhere/at/all"));

        let directory = tempfile::tempdir().unwrap();
        let error = Bundle::load(directory.path()).unwrap_err();
        assert!(matches!(error, BundleError::Read { .. }));
        assert!(chain(&error).contains("config.json"));

        fs::write(directory.path().join("config.json"), "{").unwrap();
        let error = Bundle::load(directory.path()).unwrap_err();
        assert!(matches!(error, BundleError::Parse { .. }));
        assert!(chain(&error).contains("config.json"));
    }

    #[test]
    fn unknown_capabilities_are_left_out() {
        let mut config = minimal();
        let names = ["CAP_KILL", "CAP_OF_THE_FUTURE"];
        config["process"]["capabilities"] = json!({ "bounding": names, "effective": names });
        let bundle = Bundle::load(bundle_with(&config).path()).unwrap();
        let capabilities = bundle.process().and_then(|p| p.capabilities().as_ref());
        let bounding = capabilities.and_then(|c| c.bounding().as_ref()).unwrap();
        assert_eq!(bounding.iter().collect::<Vec<_>>(), [&Capability::Kill]);

        config["process"]["cwd"] = json!(1);
        assert!(matches!(error_of(&config), BundleError::Parse { .. }));
    }

    #[test]
    fn too_long_configuration_is_not_read_to_its_end() {
        let directory = bundle_with(&minimal());
        let file = File::create(directory.path().join("config.json")).unwrap();
        file.set_len(1 << 40).unwrap();
        let error = Bundle::load(directory.path()).unwrap_err();
        assert!(matches!(error, BundleError::TooLong { .. }));
    }

    #[test]
    fn incomplete_configurations_are_refused() {
        let mut config = minimal();
        config["ociVersion"] = json!("2.0.0");
        assert!(error_of(&config).to_string().contains("2.0.0"));

        let mut config = minimal();
        config["root"]["path"] = json!("no-such-root");
        let error = error_of(&config);
        assert!(matches!(error, BundleError::Rootfs { .. }));
        assert!(error.to_string().contains("no-such-root"));

        let mut config = minimal();
        config["process"]["args"] = json!([]);
        assert!(matches!(
            error_of(&config),
            BundleError::Missing {
                what: "process.args",
                ..
            }
        ));

        for key in ["root", "process"] {
            let mut config = minimal();
            config.as_object_mut().unwrap().remove(key);
            assert!(
                matches!(error_of(&config), BundleError::Missing { .. }),
                "{key}"
            );
        }
    }
}
