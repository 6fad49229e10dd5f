//! Our changes to the kernel's source: patches, applied in the order of their
//! names. One that does not apply fails the build by name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Flavour;
use super::config::files_with_extension;
use crate::paths;

/// The patches of one flavour.
pub(super) struct Patches {
    files: Vec<PathBuf>,
}

impl Patches {
    /// Finds the patches of `flavour`, if it has any.
    pub(super) fn find(flavour: Flavour) -> Result<Self> {
        let folder = paths::root()
            .join("guest-kernel")
            .join(flavour.folder())
            .join("patches");
        let files = if folder.exists() {
            files_with_extension(&folder, "patch")?
        } else {
            Vec::new()
        };
        Ok(Self { files })
    }

    /// All of their text, for the key of what is built with them.
    pub(super) fn text(&self) -> Result<String> {
        self.files
            .iter()
            .map(|file| {
                fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
            })
            .collect()
    }

    /// Applies them to the source in `tree`.
    pub(super) fn apply(&self, tree: &Path) -> Result<()> {
        self.files.iter().try_for_each(|file| apply(file, tree))
    }
}

/// Without fuzz: a change that lands where its surroundings have changed may
/// mean something else there.
fn apply(file: &Path, tree: &Path) -> Result<()> {
    let input = File::open(file).with_context(|| format!("open {}", file.display()))?;
    let output = Command::new("patch")
        .args(["--strip=1", "--fuzz=0", "--forward", "--batch"])
        .current_dir(tree)
        .stdin(input)
        .output()
        .context("run patch")?;
    ensure!(
        output.status.success(),
        "{} does not apply to this kernel's source:\n{}",
        file.display(),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "Why.\n\n--- a/file\n+++ b/file\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n";

    fn apply_to(content: &str) -> Result<String> {
        let folder = tempfile::tempdir().unwrap();
        let patch = folder.path().join("0001-two.patch");
        fs::write(&patch, PATCH).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, content).unwrap();
        apply(&patch, folder.path())?;
        Ok(fs::read_to_string(file).unwrap())
    }

    #[test]
    fn patch_is_applied() {
        assert_eq!(apply_to("one\ntwo\nthree\n").unwrap(), "one\n2\nthree\n");
    }

    #[test]
    fn patch_for_another_source_is_named() {
        for content in ["one\n2\nthree\n", "1\ntwo\nthree\n"] {
            let error = apply_to(content).unwrap_err().to_string();
            assert!(error.contains("0001-two.patch"), "{error}");
        }
    }
}
