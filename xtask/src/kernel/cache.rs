//! Keeps finished kernels under a key made from all that went into them.
//!
//! Layout of `kernels/` in the cache:
//!
//! - `<flavour>-<key>/`: `vmlinux`, `bzImage` (of the emulated host),
//!   `config`, `System.map`, `metadata.json`; complete whenever it exists.
//! - `<flavour>-<key>.lock`: held by whoever looks at or builds that kernel.
//! - `<flavour>-<key>.tmp/`: a build under way, or one that was interrupted.
//! - `<flavour>-<key>.log`: the output of its last `make`.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Flavour, KernelImage, Recipe, elf, make, returns, segments, static_calls};
use crate::hex::hex;
use crate::paths;

/// Hexadecimal digits of the key that the file names carry.
const KEY_DIGITS: usize = 16;

/// What `metadata.json` holds.
#[derive(Deserialize, Serialize)]
pub(super) struct Metadata {
    pub(super) release: String,
    pub(super) build_seconds: u64,
}

/// The place of one kernel in the cache, locked against other commands.
pub(super) struct Entry {
    flavour: Flavour,
    /// Path without extension.
    stem: PathBuf,
    /// Unlocks when dropped.
    _lock: File,
}

impl Entry {
    /// Waits until no other command works on this kernel.
    pub(super) fn lock(recipe: &Recipe) -> Result<Self> {
        let flavour = recipe.flavour;
        let key = key(
            flavour,
            recipe.source.sha256(),
            &recipe.patches.text()?,
            &recipe.fragments.merged(),
            &make::toolchain()?,
        );
        let folder = paths::cache()?.join("kernels");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let stem = folder.join(format!("{}-{key}", flavour.folder()));
        let path = stem.with_extension("lock");
        let lock = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            eprintln!("  another command is building the {flavour} kernel; waiting for it");
        }
        lock.lock()
            .with_context(|| format!("lock {}", path.display()))?;
        Ok(Self {
            flavour,
            stem,
            _lock: lock,
        })
    }

    /// The kernel, if it has been built.
    pub(super) fn image(&self) -> Result<Option<KernelImage>> {
        if !self.stem.exists() {
            return Ok(None);
        }
        let build = Build {
            folder: self.stem.clone(),
        };
        let metadata = build.metadata()?;
        Ok(Some(KernelImage {
            loaded_bytes: elf::loaded_bytes(&build.vmlinux())?,
            vmlinux: build.vmlinux(),
            bzimage: (self.flavour == Flavour::EmulatedHost).then(|| build.bzimage()),
            release: metadata.release,
            build_seconds: metadata.build_seconds,
        }))
    }

    /// Where the finished kernel lies.
    pub(super) fn folder(&self) -> &Path {
        &self.stem
    }

    pub(super) fn log(&self) -> PathBuf {
        self.stem.with_extension("log")
    }

    /// An empty folder to build in; the rest of an interrupted build goes.
    pub(super) fn scratch(&self) -> Result<Build> {
        let folder = self.stem.with_extension("tmp");
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", folder.display()));
            }
            _ => {}
        }
        fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(Build { folder })
    }

    /// Makes a finished build the cached one, in one step.
    pub(super) fn publish(&self, build: &Build) -> Result<KernelImage> {
        elf::check_mappable(&build.vmlinux())?;
        fs::rename(&build.folder, &self.stem)
            .with_context(|| format!("rename {}", build.folder.display()))?;
        self.image()?
            .with_context(|| format!("{} has vanished", self.stem.display()))
    }

    /// The names of the files in which `build` differs from the cached kernel.
    pub(super) fn differences(&self, build: &Build) -> Result<Vec<&'static str>> {
        let mut names = vec!["vmlinux", "config", "System.map"];
        if self.flavour == Flavour::EmulatedHost {
            names.push("bzImage");
        }
        let mut differing = Vec::new();
        for name in names {
            if read(&self.stem.join(name))? != read(&build.file(name))? {
                differing.push(name);
            }
        }
        Ok(differing)
    }
}

/// The files of one build, cached or not yet.
pub(super) struct Build {
    pub(super) folder: PathBuf,
}

impl Build {
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn vmlinux(&self) -> PathBuf {
        self.file("vmlinux")
    }

    pub(super) fn bzimage(&self) -> PathBuf {
        self.file("bzImage")
    }

    pub(super) fn describe(&self, metadata: &Metadata) -> Result<()> {
        let path = self.file("metadata.json");
        let text = serde_json::to_vec_pretty(metadata).context("encode the metadata")?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    fn metadata(&self) -> Result<Metadata> {
        let path = self.file("metadata.json");
        serde_json::from_slice(&read(&path)?).with_context(|| format!("parse {}", path.display()))
    }

    /// Removes a build that is not wanted after all.
    pub(super) fn discard(self) -> Result<()> {
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("remove {}", self.folder.display()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// Digest of everything that decides the bytes of a kernel.
fn key(
    flavour: Flavour,
    source_sha256: &str,
    patches: &str,
    config: &str,
    toolchain: &str,
) -> String {
    let mut hasher = Sha256::new();
    let mut feed = |part: &str| {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    feed(flavour.target());
    feed(source_sha256);
    feed(config);
    feed(toolchain);
    for (name, value) in make::VARIABLES {
        feed(name);
        feed(value);
    }
    if flavour == Flavour::Guest {
        feed(returns::RECIPE);
        feed(static_calls::RECIPE);
        feed(segments::RECIPE);
    }
    if !patches.is_empty() {
        feed(patches);
    }
    let mut key = hex(&hasher.finalize());
    key.truncate(KEY_DIGITS);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_depends_on_each_input() {
        let base = key(Flavour::Guest, "source", "", "config", "gcc");
        assert_eq!(base, key(Flavour::Guest, "source", "", "config", "gcc"));
        assert_eq!(base.len(), KEY_DIGITS);
        for other in [
            key(Flavour::EmulatedHost, "source", "", "config", "gcc"),
            key(Flavour::Guest, "source2", "", "config", "gcc"),
            key(Flavour::Guest, "source", "patch", "config", "gcc"),
            key(Flavour::Guest, "source", "", "config2", "gcc"),
            key(Flavour::Guest, "source", "", "config", "gcc2"),
            // Parts must not run into each other.
            key(Flavour::Guest, "sourceconfig", "", "", "gcc"),
        ] {
            assert_ne!(base, other);
        }
    }
}
