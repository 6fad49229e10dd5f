//! Root file systems for containers, kept in the cache.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::progress::Step;
use crate::{cargo, paths, setup};

/// Hexadecimal digits of what a name says about how its file system is made.
const KEY_DIGITS: usize = 16;

const BUSYBOX: &str = "/bin/busybox";

/// Software that is tested in containers, as Debian packages it.
const SOFTWARE: [&str; 14] = [
    "dbus",
    "etcd-client",
    "etcd-server",
    "gcc",
    "libc6-dev",
    "libpython3.11-testsuite",
    "make",
    "nginx-light",
    "postgresql",
    "procps",
    "python3",
    "redis-server",
    "systemd-sysv",
    "wget",
];

/// Has no database made when `postgresql` is installed.
const NO_DATABASE: &str = "mkdir -p \"$1/etc/postgresql-common\" && \
    echo create_main_cluster=false >\"$1/etc/postgresql-common/createcluster.conf\"";

/// Debian's smallest system, of this machine's release and from its mirror.
pub(crate) fn debian() -> Result<PathBuf> {
    mmdebstrap("debian", &[])
}

/// That system with [`SOFTWARE`].
pub(crate) fn software() -> Result<PathBuf> {
    let packages = format!("--include={}", SOFTWARE.join(","));
    let no_database = format!("--essential-hook={NO_DATABASE}");
    mmdebstrap("software", &[&packages, &no_database])
}

/// That system with a compiler and version control, and without what is for people.
pub(crate) fn development() -> Result<PathBuf> {
    let packages = "--include=gcc,git,libc6-dev,make";
    let less = ["doc", "info", "locale", "man"]
        .map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*"));
    let mut options = vec![packages];
    options.extend(less.iter().map(String::as_str));
    mmdebstrap("development", &options)
}

/// What mmdebstrap makes of `options`, under a name that changes with them.
fn mmdebstrap(name: &str, options: &[&str]) -> Result<PathBuf> {
    let codename = setup::debian_codename()?;
    let mut name = format!("{name}-{codename}");
    if !options.is_empty() {
        let digest = hex(&Sha256::digest(options.join("\n")));
        name = format!("{name}-{}", &digest[..KEY_DIGITS]);
    }
    cached(&name, |folder| {
        let mut command = Command::new("mmdebstrap");
        command
            .args(["--quiet", "--variant=minbase", "--format=directory"])
            .args(options)
            .arg(&codename)
            .arg(folder)
            .arg(setup::debian_mirror()?);
        cargo::run(&mut command)
    })
}

/// busybox, and the little that a program expects beside it.
pub(crate) fn busybox() -> Result<PathBuf> {
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
