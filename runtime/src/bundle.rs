//! OCI bundles: a directory with a `config.json` and a root file system.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hooks, Process, Spec};

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
    /// The configuration asks for what a container in a microVM cannot have.
    #[error("{} asks for {what}, which is not supported", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it asks for.
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
    serde_json::from_slice(&bytes).map_err(|source| BundleError::Parse {
        path: path.into(),
        source,
    })
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
    if spec.hooks().as_ref().is_some_and(has_hooks) {
        // They expect the container's namespaces on the host, and there are none.
        return Err(BundleError::Unsupported {
            path: path.into(),
            what: "hooks",
        });
    }
    Ok(())
}

fn has_hooks(hooks: &Hooks) -> bool {
    #[allow(deprecated)] // Engines still write it.
    let prestart = hooks.prestart();
    [
        prestart,
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ]
    .into_iter()
    .flatten()
    .any(|hooks| !hooks.is_empty())
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

    #[test]
    fn hooks_are_refused() {
        let mut config = minimal();
        for kind in ["prestart", "createRuntime", "startContainer", "poststop"] {
            config["hooks"] = json!({ kind: [{ "path": "/bin/true" }] });
            assert!(matches!(
                error_of(&config),
                BundleError::Unsupported { what: "hooks", .. }
            ));
        }
        config["hooks"] = json!({ "createRuntime": [] });
        Bundle::load(bundle_with(&config).path()).unwrap();
    }
}
