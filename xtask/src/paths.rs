//! Where things lie.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result};

/// The target triple that everything is built for; see `.cargo/config.toml`.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The clone's root.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        // What `cargo run` says counts more than where this program was built:
        // clones may share a target folder.
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package
            .parent()
            .expect("xtask lies in a folder of the clone");
        root.to_owned()
    });
    &ROOT
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The finished build: `bulkhead`, `vmlinux` and `initramfs.cpio`.
pub(crate) fn dist() -> PathBuf {
    target().join("dist")
}

/// What outlives a clone: downloads, tools, kernels and root filesystems.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("BULKHEAD_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    let home = env::var_os("HOME").context("neither BULKHEAD_CACHE nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/bulkhead"))
}

/// A binary of the release build.
pub(crate) fn release_binary(name: &str) -> PathBuf {
    target().join(TARGET).join("release").join(name)
}

/// A binary of the build for debugging.
pub(crate) fn debug_binary(name: &str) -> PathBuf {
    target().join(TARGET).join("debug").join(name)
}
