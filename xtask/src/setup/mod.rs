//! What a fresh Debian machine lacks for each verb, and how it gets it: packages
//! from Debian, tools from Cargo's registry into the cache.

mod apt;
mod tool;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Result, bail};

pub(crate) use apt::{codename as debian_codename, mirror as debian_mirror};
pub(crate) use tool::{CARGO_DENY, Tool, VIRTIOFSD};

use crate::progress::Step;
use crate::{cargo, kernel};

/// Something that a verb does, and that needs more than Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Building the kernels and the binaries.
    Build,
    /// The emulated AMD host.
    Amd,
    /// The emulated Intel host.
    Intel,
    /// A Debian root file system.
    Rootfs,
    /// Checking licences and sources of dependencies.
    Deny,
}

impl Need {
    fn packages(self) -> Vec<&'static str> {
        match self {
            Self::Build => {
                let mut packages = kernel::PACKAGES.to_vec();
                packages.extend(["libcap-ng-dev", "libseccomp-dev", kernel::SOURCE_PACKAGE]);
                packages
            }
            Self::Amd => vec![
                "busybox-static",
                "gcc",
                "libcap-ng-dev",
                "libseccomp-dev",
                apt::QEMU,
            ],
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
        }
    }

    fn tools(self) -> &'static [Tool] {
        match self {
            Self::Amd => &[VIRTIOFSD],
            Self::Deny => &[CARGO_DENY],
            Self::Build | Self::Intel | Self::Rootfs => &[],
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
    let packages = missing_packages(needs)?;
    let tools = missing_tools(needs)?;
    if packages.is_empty() && tools.is_empty() {
        return Ok(());
    }
    let plan = Plan::new(&packages, &tools)?;
    if policy.no_install {
        bail!(
            "this machine lacks {}\ninstall it with:\n{}",
            plan.names(),
            plan.commands()
        );
    }
    if !packages.is_empty() && !is_root()? {
        bail!(
            "installing packages takes root; install {} with:\n{}",
            plan.names(),
            plan.commands()
        );
    }
    eprintln!("installing {}", plan.names());
    plan.carry_out()
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

/// The commands that install what is missing, in order.
struct Plan {
    names: Vec<String>,
    backports: Option<apt::Backports>,
    commands: Vec<Command>,
}

impl Plan {
    fn new(packages: &[&str], tools: &[Tool]) -> Result<Self> {
        let names = packages.iter().map(ToString::to_string);
        let names = names.chain(tools.iter().map(ToString::to_string)).collect();
        let backports = apt::Backports::needed_for(packages)?;
        let mut commands = Vec::new();
        if !packages.is_empty() {
            commands.push(apt::update());
            commands.push(apt::install(packages, backports.as_ref()));
        }
        for tool in tools {
            commands.push(tool.install()?);
        }
        Ok(Self {
            names,
            backports,
            commands,
        })
    }

    fn names(&self) -> String {
        self.names.join(", ")
    }

    /// The commands, a line each, for a user to type.
    fn commands(&self) -> String {
        let backports = self.backports.iter().map(apt::Backports::command_line);
        let commands = self.commands.iter().map(|command| {
            let line = cargo::line(command);
            if line.starts_with("apt-get") {
                format!("sudo {line}")
            } else {
                line
            }
        });
        backports
            .chain(commands)
            .map(|line| format!("  {line}"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn carry_out(mut self) -> Result<()> {
        if let Some(backports) = &self.backports {
            backports.add()?;
        }
        for command in &mut self.commands {
            let step = Step::start(cargo::line(command));
            cargo::run(command)?;
            step.finish();
        }
        Ok(())
    }
}

fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}
