//! The container that is measured: a program of a few instructions on a root
//! file system with hardly anything else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Error;
use crate::machine_code;
use crate::process::output;

/// The container's command, which waits; and one that exits at once.
pub(crate) const WAIT: &str = "/wait";
pub(crate) const EXIT: &str = "/exit";

/// Size of a microVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Guest memory.
    pub memory_mib: u32,
}

/// An OCI bundle.
#[derive(Debug)]
pub(crate) struct Bundle {
    path: PathBuf,
}

impl Bundle {
    /// Makes the bundle `path` with the command [`WAIT`] or [`EXIT`], its configuration by `bulkhead spec`.
    pub(crate) fn new(
        bulkhead: &Path,
        path: PathBuf,
        command: &str,
        size: Size,
    ) -> Result<Self, Error> {
        let rootfs = path.join("rootfs");
        for name in ["proc", "sys", "dev", "tmp"] {
            let directory = rootfs.join(name);
            fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
        }
        for (name, code) in [(WAIT, machine_code::WAIT), (EXIT, machine_code::EXIT)] {
            install(&rootfs.join(name.trim_start_matches('/')), code)?;
        }
        let mut config = default_config(bulkhead, &path)?;
        // What older runtimes know, too.
        config["ociVersion"] = json!("1.0.2");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!([command]);
        config["annotations"] = json!({
            "dev.bulkhead.vcpus": size.vcpus.to_string(),
            "dev.bulkhead.memory-mib": size.memory_mib.to_string(),
        });
        let file = path.join("config.json");
        fs::write(&file, config.to_string()).map_err(Error::io("write", &file))?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn install(path: &Path, code: &[u8]) -> Result<(), Error> {
    fs::write(path, machine_code::program(code)).map_err(Error::io("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(Error::io("make executable", path))
}

/// What `bulkhead spec` writes.
pub(crate) fn default_config(bulkhead: &Path, bundle: &Path) -> Result<Value, Error> {
    let mut spec = Command::new(bulkhead);
    spec.args(["spec", "--bundle"]).arg(bundle);
    output(&mut spec)?;
    let file = bundle.join("config.json");
    let text = fs::read(&file).map_err(Error::io("read", &file))?;
    serde_json::from_slice(&text).map_err(|source| Error::Content {
        path: file,
        what: "an OCI configuration",
        source,
    })
}
