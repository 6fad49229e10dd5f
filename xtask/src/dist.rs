//! The finished build: binary, guest kernel and initramfs side by side.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cargo::{cargo, run};
use crate::cpio::Archive;
use crate::kernel::{self, Flavour, KernelImage};
use crate::paths;
use crate::progress::Step;

/// A complete installation in one folder.
#[derive(Debug)]
pub(crate) struct Dist {
    pub(crate) bulkhead: PathBuf,
    pub(crate) vmlinux: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) kernel: KernelImage,
}

/// Builds what has changed and lays it out in [`paths::dist`].
pub(crate) fn build() -> Result<Dist> {
    let kernel = kernel::build(Flavour::Guest, kernel::Options::default())?;
    let step = Step::start("build bulkhead and its agent");
    // One by one: together, each would be built with the features that the other asks
    // of their common dependencies.
    for package in ["bulkhead", "bulkhead-agent"] {
        run(cargo().args(["build", "--quiet", "--release", "--package", package]))?;
    }
    step.finish();

    let folder = paths::dist();
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let dist = Dist {
        bulkhead: folder.join("bulkhead"),
        vmlinux: folder.join("vmlinux"),
        initramfs: folder.join("initramfs.cpio"),
        kernel,
    };
    install(
        &dist.bulkhead,
        &read(&paths::release_binary("bulkhead"))?,
        0o755,
    )?;
    install(&dist.vmlinux, &read(&dist.kernel.vmlinux)?, 0o644)?;
    let agent = read(&paths::release_binary("bulkhead-agent"))?;
    install(&dist.initramfs, &initramfs(&agent)?, 0o644)?;
    Ok(dist)
}

/// The guest's first root: the agent as `/init`, and the console that the kernel
/// opens for it before anything is mounted. The kernel runs the agent from where
/// it lies in the archive.
fn initramfs(agent: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Archive::new(Vec::new());
    archive.directory("dev", 0o755)?;
    archive.character_device("dev/console", 0o600, (5, 1))?;
    archive.aligned_file("init", 0o755, agent)?;
    Ok(archive.finish()?)
}

/// Puts a file in place unless it is there with the same content: in one step,
/// for somebody may be running the old one.
fn install(path: &Path, content: &[u8], permissions: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    if fs::read(path).is_ok_and(|existing| existing == content) {
        return Ok(());
    }
    let context = || format!("write {}", path.display());
    let folder = path.parent().with_context(context)?;
    let file = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    fs::write(file.path(), content).with_context(context)?;
    fs::set_permissions(file.path(), fs::Permissions::from_mode(permissions))
        .with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::initramfs;

    #[test]
    fn the_same_agent_gives_the_same_initramfs() {
        assert_eq!(initramfs(b"agent").unwrap(), initramfs(b"agent").unwrap());
    }
}
