//! Tools from Cargo's registry, in the cache.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::cargo;
use crate::paths;

/// A program that a package of the registry installs under the package's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Serves this machine's files to the emulated AMD host.
pub(crate) const VIRTIOFSD: Tool = Tool {
    name: "virtiofsd",
    version: "1.14.0",
};

/// Checks licences, sources and duplicates of dependencies.
pub(crate) const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
};

/// Builds fuzz targets.
pub(crate) const CARGO_FUZZ: Tool = Tool {
    name: "cargo-fuzz",
    version: "0.13.2",
};

impl Tool {
    /// Where the program lies once it is installed.
    pub(crate) fn path(self) -> Result<PathBuf> {
        Ok(self.folder()?.join("bin").join(self.name))
    }

    /// The command that installs it.
    pub(super) fn install(self) -> Result<Command> {
        let folder = self.folder()?;
        // Outside the clone, so that its configuration does not apply.
        let outside = paths::cache()?;
        fs::create_dir_all(&outside).with_context(|| format!("create {}", outside.display()))?;
        let mut command = cargo();
        command
            .current_dir(outside)
            .env_remove("CARGO_TARGET_DIR")
            .args([
                "install",
                "--quiet",
                "--locked",
                "--version",
                self.version,
                "--root",
            ])
            .arg(folder)
            .arg(self.name);
        Ok(command)
    }

    fn folder(self) -> Result<PathBuf> {
        let name = format!("{}-{}", self.name, self.version);
        Ok(paths::cache()?.join("tools").join(name))
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.name, self.version)
    }
}
