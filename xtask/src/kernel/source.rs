//! Finds the kernel's source: Debian's package, else kernel.org's tarball.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::paths;
use crate::progress::Step;

/// `guest-kernel/source.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    debian: Debian,
    upstream: Upstream,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Debian {
    package: String,
    tarball: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Upstream {
    url: String,
    sha256: String,
}

/// A source tarball that is on this machine.
pub(super) struct Source {
    tarball: PathBuf,
    sha256: String,
}

impl Source {
    /// Takes the installed package's tarball, else downloads the pinned one.
    pub(super) fn locate() -> Result<Self> {
        let path = paths::root().join("guest-kernel/source.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let lock: Lock =
            toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        if lock.debian.tarball.exists() {
            let sha256 = sha256_of(&lock.debian.tarball)?;
            return Ok(Self {
                tarball: lock.debian.tarball,
                sha256,
            });
        }
        let downloads = paths::cache()?.join("downloads");
        download(&lock.upstream, &downloads).with_context(|| {
            format!(
                "package {} is not installed, and its substitute could not be had",
                lock.debian.package
            )
        })
    }

    /// SHA-256 of the tarball, in hexadecimal.
    pub(super) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Unpacks the tree into `folder`, without the tarball's top folder.
    pub(super) fn unpack(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let step = Step::start(format!("unpack {}", self.tarball.display()));
        let status = Command::new("tar")
            .arg("--extract")
            .arg("--use-compress-program=xz --threads=0")
            .arg("--strip-components=1")
            .arg("--file")
            .arg(&self.tarball)
            .arg("--directory")
            .arg(folder)
            .status()
            .context("run tar")?;
        ensure!(
            status.success(),
            "unpacking {} failed: tar ended with {status}",
            self.tarball.display()
        );
        step.finish();
        Ok(())
    }
}

fn download(upstream: &Upstream, folder: &Path) -> Result<Source> {
    let name = upstream.url.rsplit('/').next().unwrap_or(&upstream.url);
    let tarball = folder.join(name);
    if !tarball.exists() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let partial = tempfile::NamedTempFile::new_in(folder)
            .with_context(|| format!("create a file in {}", folder.display()))?;
        let step = Step::start(format!("download {}", upstream.url));
        let status = Command::new("curl")
            .args([
                "--fail",
                "--location",
                "--silent",
                "--show-error",
                "--output",
            ])
            .arg(partial.path())
            .arg(&upstream.url)
            .status()
            .context("run curl")?;
        ensure!(status.success(), "downloading {} failed", upstream.url);
        step.finish();
        check(partial.path(), upstream)?;
        partial
            .persist(&tarball)
            .with_context(|| format!("keep {}", tarball.display()))?;
    }
    check(&tarball, upstream)?;
    Ok(Source {
        tarball,
        sha256: upstream.sha256.clone(),
    })
}

fn check(file: &Path, upstream: &Upstream) -> Result<()> {
    let found = sha256_of(file)?;
    if found != upstream.sha256 {
        bail!(
            "{} has SHA-256 {found}, not the pinned {} of {}",
            file.display(),
            upstream.sha256,
            upstream.url
        );
    }
    Ok(())
}

fn sha256_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).with_context(|| format!("read {}", path.display()))?;
    Ok(hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_a_file_matches_the_published_vector() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "abc").unwrap();
        assert_eq!(
            sha256_of(file.path()).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn download_of_other_bytes_is_refused_and_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let served = folder.path().join("served.tar.xz");
        fs::write(&served, "something else").unwrap();
        let upstream = Upstream {
            url: format!("file://{}", served.display()),
            sha256: "0".repeat(64),
        };
        let downloads = folder.path().join("downloads");
        let error = download(&upstream, &downloads).err().expect("refused");
        assert!(error.to_string().contains("not the pinned"), "{error:#}");
        assert_eq!(fs::read_dir(&downloads).unwrap().count(), 0);
    }
}
