//! Debian packages.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// QEMU, of which Debian 12 itself has a version that is too old.
pub(super) const QEMU: &str = "qemu-system-x86";

/// Older ones lose wake-ups under nested SVM: timers of the inner guest hang.
const QEMU_MINIMUM: &str = "1:10.0";

/// The file that tells apt about backports.
const BACKPORTS_FILE: &str = "/etc/apt/sources.list.d/bulkhead-backports.sources";

const INSTALL: [&str; 4] = ["install", "--quiet", "--yes", "--no-install-recommends"];

/// Where Debian is mirrored for everybody.
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// Those of `packages` that are not installed, or too old.
pub(super) fn missing<'p>(packages: &BTreeSet<&'p str>) -> Result<Vec<&'p str>> {
    let query = Command::new("dpkg-query")
        .args([
            "--show",
            "--showformat",
            "${Package} ${Version} ${db:Status-Status}\n",
        ])
        .args(packages)
        .output()
        .context("ask dpkg-query what is installed; other systems than Debian are not supported")?;
    let installed = String::from_utf8_lossy(&query.stdout);
    let version_of = |package: &str| {
        installed.lines().find_map(|line| {
            let mut words = line.split(' ');
            let name = words.next()?;
            let version = words.next()?;
            (name == package && words.next() == Some("installed")).then_some(version)
        })
    };
    let mut missing = Vec::new();
    for &package in packages {
        match version_of(package) {
            Some(version) if package != QEMU || is_recent_qemu(version)? => {}
            _ => missing.push(package),
        }
    }
    Ok(missing)
}

/// Whether Debian has the package for this release, as far as apt knows. A machine
/// that has never updated its lists knows of none.
pub(super) fn offers(package: &str) -> bool {
    let knows = |package| {
        let show = Command::new("apt-cache")
            .args(["show", "--quiet", package])
            .output();
        show.is_ok_and(|output| output.status.success())
    };
    knows(package) || !knows("gcc")
}

pub(super) fn update() -> Command {
    apt_get(&["update", "--quiet"])
}

/// The commands that install `packages`.
pub(super) fn install(packages: &[&str], backports: Option<&Backports>) -> Vec<Command> {
    let (newer, ordinary): (Vec<&str>, Vec<&str>) = packages
        .iter()
        .partition(|&&package| backports.is_some() && package == QEMU);
    let mut commands = Vec::new();
    if !ordinary.is_empty() {
        let mut command = apt_get(&INSTALL);
        command.args(ordinary);
        commands.push(command);
    }
    if let Some(backports) = backports.filter(|_| !newer.is_empty()) {
        // What it depends on has to come from there too.
        let mut command = apt_get(&INSTALL);
        command
            .args(["--target-release", &backports.suite()])
            .args(newer);
        commands.push(command);
    }
    commands
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_recent_qemu(version: &str) -> Result<bool> {
    let status = Command::new("dpkg")
        .args(["--compare-versions", version, "ge", QEMU_MINIMUM])
        .status()
        .context("compare versions with dpkg")?;
    Ok(status.success())
}

/// Debian's archive of newer packages for a stable release, which apt may not
/// know of yet.
pub(super) struct Backports {
    codename: String,
    /// The mirror to add; nothing if apt knows the archive already.
    mirror: Option<String>,
}

impl Backports {
    /// The archive, if one of `packages` has to come from it.
    pub(super) fn needed_for(packages: &[&str]) -> Result<Option<Self>> {
        let codename = codename()?;
        // Debian 13 has QEMU 10 itself.
        if !packages.contains(&QEMU) || codename != "bookworm" {
            return Ok(None);
        }
        let suite = suite_of(&codename);
        let is_known = index_targets()?.iter().any(|target| target.suite == suite);
        let mirror = if is_known { None } else { Some(mirror()?) };
        Ok(Some(Self { codename, mirror }))
    }

    fn suite(&self) -> String {
        suite_of(&self.codename)
    }

    /// Tells apt about the archive.
    pub(super) fn add(&self) -> Result<()> {
        let Some(source) = self.source() else {
            return Ok(());
        };
        eprintln!("adding {} as {BACKPORTS_FILE}", self.suite());
        fs::write(BACKPORTS_FILE, source).with_context(|| format!("write {BACKPORTS_FILE}"))
    }

    /// What a user would type to the same end; nothing if apt knows the archive.
    pub(super) fn command_line(&self) -> Option<String> {
        let source = self.source()?.replace('\n', "\\n");
        Some(format!("printf '{source}' | sudo tee {BACKPORTS_FILE}"))
    }

    fn source(&self) -> Option<String> {
        let mirror = self.mirror.as_ref()?;
        Some(format!(
            "Types: deb\nURIs: {mirror}\nSuites: {}\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
            self.suite()
        ))
    }
}

fn suite_of(codename: &str) -> String {
    format!("{codename}-backports")
}

/// An archive that apt knows of.
struct IndexTarget {
    uri: String,
    suite: String,
}

/// The mirror of Debian's own archive that this machine uses.
pub(crate) fn mirror() -> Result<String> {
    let codename = codename()?;
    let targets = index_targets()?;
    let release = targets.into_iter().find(|target| target.suite == codename);
    Ok(release.map_or(DEFAULT_MIRROR.into(), |target| target.uri))
}

fn index_targets() -> Result<Vec<IndexTarget>> {
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE)",
            "Created-By: Packages",
        ])
        .output()
        .context("ask apt-get for the archives it knows")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let targets = text.lines().filter_map(|line| {
        let (uri, suite) = line.split_once(' ')?;
        Some(IndexTarget {
            uri: uri.into(),
            suite: suite.into(),
        })
    });
    Ok(targets.collect())
}

/// The release's name, as `bookworm`.
pub(crate) fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    match codename {
        Some(codename) => Ok(codename.trim_matches('"').into()),
        None => bail!("/etc/os-release has no VERSION_CODENAME"),
    }
}
