//! Root file systems to demonstrate with, kept in the cache.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::progress::Step;
use crate::{cargo, paths, setup};

const BUSYBOX: &str = "/bin/busybox";

/// Debian's smallest system, of this machine's release and from its mirror.
pub(super) fn debian() -> Result<PathBuf> {
    let codename = setup::debian_codename()?;
    cached(&format!("debian-{codename}"), |folder| {
        let mut command = Command::new("mmdebstrap");
        command
            .args([
                "--quiet",
                "--variant=minbase",
                "--format=directory",
                &codename,
            ])
            .arg(folder)
            .arg(setup::debian_mirror()?);
        cargo::run(&mut command)
    })
}

/// busybox, and the little that a program expects beside it.
pub(super) fn busybox() -> Result<PathBuf> {
    cached("busybox", |folder| {
        for name in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
            fs::create_dir_all(folder.join(name)).context("create a folder")?;
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\n";
        fs::write(folder.join("etc/passwd"), passwd).context("write passwd")?;
        let release = "PRETTY_NAME=\"a busybox root file system\"\n";
        fs::write(folder.join("etc/os-release"), release).context("write os-release")?;
        fs::copy(BUSYBOX, folder.join("bin/busybox")).context("copy busybox")?;
        let list = Command::new(BUSYBOX)
            .arg("--list")
            .output()
            .context("ask busybox for its tools")?;
        for tool in String::from_utf8_lossy(&list.stdout)
            .lines()
            .filter(|tool| *tool != "busybox")
        {
            symlink("busybox", folder.join("bin").join(tool)).context("link a tool to busybox")?;
        }
        Ok(())
    })
}

/// The root file system `name`, made by `make` unless it is there.
fn cached(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let all = paths::cache()?.join("rootfs");
    let finished = all.join(name);
    if finished.exists() {
        return Ok(finished);
    }
    let step = Step::start(format!("make the root file system {name}"));
    fs::create_dir_all(&all).with_context(|| format!("create {}", all.display()))?;
    let unfinished = tempfile::Builder::new()
        .prefix(name)
        .tempdir_in(&all)
        .with_context(|| format!("create a folder in {}", all.display()))?;
    make(unfinished.path())?;
    let path = unfinished.keep();
    // A folder made for one's own eyes, but this one is a system's root.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, everybody).context("open up the root")?;
    fs::rename(&path, &finished).with_context(|| format!("create {}", finished.display()))?;
    step.finish();
    Ok(finished)
}
