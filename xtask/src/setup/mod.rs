//! What a fresh Debian machine lacks for each verb, and how it gets it: packages
//! from Debian, tools from Cargo's registry into the cache.

mod apt;
mod tool;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Result, bail};

pub(crate) use apt::{codename as debian_codename, mirror as debian_mirror};
pub(crate) use tool::{CARGO_DENY, CARGO_FUZZ, Tool, VIRTIOFSD};

use crate::progress::Step;
use crate::{cargo, kernel};

/// Something that a verb does, and that needs more than Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Building the kernels and the binaries.
    Build,
    /// The emulated AMD host, its kernel aside.
    Amd,
    /// The emulated Intel host, its kernel aside.
    Intel,
    /// A Debian root file system.
    Rootfs,
    /// Checking licences and sources of dependencies.
    Deny,
    /// Building and running fuzz targets.
    Fuzz,
    /// Work on shared files, which is compared with that under another runtime.
    Storage,
    /// OCI runtimes that Bulkhead is compared with, and what a comparison takes.
    OtherRuntimes,
    /// Container engines that are tested with Bulkhead as their runtime, and systemd.
    Engines,
}

impl Need {
    fn packages(self) -> Vec<&'static str> {
        match self {
            Self::Build => {
                let mut packages = kernel::PACKAGES.to_vec();
                packages.extend(["libcap-ng-dev", "libseccomp-dev", kernel::SOURCE_PACKAGE]);
                packages
            }
            Self::Amd => vec!["busybox-static", apt::QEMU],
            Self::Intel => vec![
                "bochs",
                "bochs-term",
                "bochsbios",
                "busybox-static",
                "isolinux",
                "syslinux-common",
                "vgabios",
                "xorriso",
            ],
            Self::Rootfs => vec!["busybox-static", "mmdebstrap"],
            Self::Deny => Vec::new(),
            Self::Fuzz => vec!["g++", "libcap-ng-dev", "libseccomp-dev"],
            Self::Storage => vec!["mmdebstrap", "runc"],
            Self::OtherRuntimes => vec!["busybox-static", "crun", "iproute2", "runc"],
            Self::Engines => vec![
                "aardvark-dns",
                "conmon",
                "containerd",
                "crun",
                "docker.io",
                "iproute2",
                "iptables",
                "netavark",
                "podman",
                "procps",
                "runc",
                "slirp4netns",
                "systemd",
                "uidmap",
            ],
        }
    }

    fn tools(self) -> &'static [Tool] {
        match self {
            Self::Amd => &[VIRTIOFSD],
            Self::Deny => &[CARGO_DENY],
            Self::Fuzz => &[CARGO_FUZZ],
            Self::Build
            | Self::Engines
            | Self::Intel
            | Self::OtherRuntimes
            | Self::Rootfs
            | Self::Storage => &[],
        }
    }
}

/// What to do about what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Policy {
    /// Stop and list what is missing instead of installing it
    #[arg(long)]
    no_install: bool,
}

/// Sees to it that everything for `needs` is there.
pub(crate) fn ensure(needs: &[Need], policy: Policy) -> Result<()> {
    let plan = Plan::for_needs(needs)?;
    if plan.is_empty() {
        return Ok(());
    }
    if policy.no_install {
        bail!(
            "this machine lacks {plan}\ninstall it with:\n{}",
            plan.commands()?
        );
    }
    if !plan.packages.is_empty() && !is_root()? {
        bail!("installing {plan} takes root:\n{}", plan.commands()?);
    }
    eprintln!("installing {plan}");
    if !plan.packages.is_empty() {
        plan.add_archives()?;
    }
    // With fresh lists, apt may know more than it did.
    Plan::for_needs(needs)?.install()
}

fn missing_packages(needs: &[Need]) -> Result<Vec<&'static str>> {
    let wanted: BTreeSet<_> = needs.iter().flat_map(|need| need.packages()).collect();
    let mut missing = apt::missing(&wanted)?;
    if missing.contains(&kernel::SOURCE_PACKAGE) && !apt::offers(kernel::SOURCE_PACKAGE) {
        // The kernel's source is downloaded instead.
        missing.retain(|&package| package != kernel::SOURCE_PACKAGE);
        missing.extend(apt::missing(&BTreeSet::from(["curl"]))?);
    }
    Ok(missing)
}

fn missing_tools(needs: &[Need]) -> Result<Vec<Tool>> {
    let mut missing = Vec::new();
    for tool in needs.iter().flat_map(|need| need.tools()) {
        if !missing.contains(tool) && !tool.path()?.exists() {
            missing.push(*tool);
        }
    }
    Ok(missing)
}

/// What is missing, and where it comes from.
struct Plan {
    packages: Vec<&'static str>,
    tools: Vec<Tool>,
    /// The archive of newer packages, if one is needed.
    backports: Option<apt::Backports>,
}

impl Plan {
    fn for_needs(needs: &[Need]) -> Result<Self> {
        let packages = missing_packages(needs)?;
        Ok(Self {
            backports: apt::Backports::needed_for(&packages)?,
            tools: missing_tools(needs)?,
            packages,
        })
    }

    fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.tools.is_empty()
    }

    /// Tells apt about archives it needs, and gets their lists.
    fn add_archives(&self) -> Result<()> {
        if let Some(backports) = &self.backports {
            backports.add()?;
        }
        run_step(&mut apt::update())
    }

    fn install(&self) -> Result<()> {
        for mut command in apt::install(&self.packages, self.backports.as_ref()) {
            run_step(&mut command)?;
        }
        for tool in &self.tools {
            run_step(&mut tool.install()?)?;
        }
        Ok(())
    }

    /// What a user would type to the same end, a line each.
    fn commands(&self) -> Result<String> {
        let mut lines: Vec<_> = self
            .backports
            .iter()
            .filter_map(apt::Backports::command_line)
            .collect();
        if !self.packages.is_empty() {
            let apt = apt::install(&self.packages, self.backports.as_ref());
            let commands = [apt::update()].into_iter().chain(apt);
            lines.extend(commands.map(|command| format!("sudo {}", cargo::line(&command))));
        }
        for tool in &self.tools {
            lines.push(cargo::line(&tool.install()?));
        }
        Ok(format!("  {}", lines.join("\n  ")))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packages = self.packages.iter().map(ToString::to_string);
        let tools = self.tools.iter().map(ToString::to_string);
        let names: Vec<_> = packages.chain(tools).collect();
        f.write_str(&names.join(", "))
    }
}

fn run_step(command: &mut Command) -> Result<()> {
    let step = Step::start(cargo::line(command));
    cargo::run_silently(command)?;
    step.finish();
    Ok(())
}

fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}
