//! Runs the kernel's own build in a folder of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::cache::{Build, Entry, Metadata};
use super::config::Fragments;
use super::symbols::Symbols;
use super::{Flavour, Recipe, returns, segments, static_calls};
use crate::progress::Step;

/// Variables given to every `make`. Time, user, host and build number would
/// otherwise be compiled in; a locale would change how tools sort.
pub(super) const VARIABLES: &[(&str, &str)] = &[
    ("ARCH", "x86_64"),
    ("KBUILD_BUILD_TIMESTAMP", "2000-01-01 00:00:00 UTC"),
    ("KBUILD_BUILD_USER", "bulkhead"),
    ("KBUILD_BUILD_HOST", "bulkhead"),
    ("KBUILD_BUILD_VERSION", "1"),
    ("LC_ALL", "C"),
    ("TZ", "UTC"),
];

/// Lines of the log shown when a build fails.
const LINES_SHOWN: usize = 30;

/// The compiler's and the linker's versions: other tools, other bytes.
pub(super) fn toolchain() -> Result<String> {
    let mut versions = String::new();
    for tool in ["gcc", "ld"] {
        let output = Command::new(tool)
            .arg("--version")
            .output()
            .with_context(|| format!("run {tool}"))?;
        ensure!(output.status.success(), "{tool} --version failed");
        let text = String::from_utf8_lossy(&output.stdout);
        versions.push_str(text.lines().next().unwrap_or_default());
        versions.push('\n');
    }
    Ok(versions)
}

/// Builds from nothing, in `entry`'s scratch folder.
pub(super) fn build(recipe: &Recipe, entry: &Entry) -> Result<Build> {
    let flavour = recipe.flavour;
    let build = entry.scratch()?;
    let tree = Tree::new(&build.folder, entry.log())?;
    recipe.source.unpack(&tree.source)?;
    recipe.patches.apply(&tree.source)?;

    let started = Instant::now();
    let step = Step::start(format!(
        "build the {flavour} kernel (log: {})",
        tree.log.display()
    ));
    tree.configure(&recipe.fragments)?;
    tree.make(&[flavour.target()])?;
    step.finish();

    let metadata = Metadata {
        release: tree.release()?,
        build_seconds: started.elapsed().as_secs(),
    };
    tree.collect(flavour, &build)?;
    build.describe(&metadata)?;
    tree.remove()?;
    Ok(build)
}

/// A source tree and the folder for what is made from it.
struct Tree {
    folder: PathBuf,
    source: PathBuf,
    objects: PathBuf,
    log: PathBuf,
}

impl Tree {
    fn new(parent: &Path, log: PathBuf) -> Result<Self> {
        let folder = parent.join("tree");
        let tree = Self {
            source: folder.join("source"),
            objects: folder.join("objects"),
            folder,
            log,
        };
        fs::create_dir_all(&tree.objects)
            .with_context(|| format!("create {}", tree.objects.display()))?;
        File::create(&tree.log).with_context(|| format!("create {}", tree.log.display()))?;
        Ok(tree)
    }

    /// Starts from everything off, as `tinyconfig` does, and switches on what
    /// the fragments ask for.
    fn configure(&self, fragments: &Fragments) -> Result<()> {
        let requested = self.objects.join("requested.config");
        fs::write(&requested, fragments.merged())
            .with_context(|| format!("write {}", requested.display()))?;
        self.make(&[
            "allnoconfig",
            &format!("KCONFIG_ALLCONFIG={}", requested.display()),
        ])?;
        let config = self.objects.join(".config");
        let config =
            fs::read_to_string(&config).with_context(|| format!("read {}", config.display()))?;
        fragments.verify(&config)
    }

    fn make(&self, arguments: &[&str]) -> Result<()> {
        let log = File::options()
            .append(true)
            .open(&self.log)
            .with_context(|| format!("open {}", self.log.display()))?;
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let status = Command::new("nice")
            .arg("make")
            .arg("-C")
            .arg(&self.source)
            .arg(format!("O={}", self.objects.display()))
            .arg(format!("-j{jobs}"))
            .args(
                VARIABLES
                    .iter()
                    .map(|(name, value)| format!("{name}={value}")),
            )
            .args(arguments)
            // What the caller's shell has set must not reach the build.
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(VARIABLES.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("duplicate the log's descriptor")?)
            .stderr(log)
            .status()
            .context("run make")?;
        if !status.success() {
            bail!(
                "make {} failed; the end of {}:\n{}",
                arguments.join(" "),
                self.log.display(),
                self.end_of_log()?
            );
        }
        Ok(())
    }

    fn end_of_log(&self) -> Result<String> {
        let text = fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n"))
    }

    fn release(&self) -> Result<String> {
        let path = self.objects.join("include/config/kernel.release");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Copies what is worth keeping.
    fn collect(&self, flavour: Flavour, build: &Build) -> Result<()> {
        strip(&self.objects.join("vmlinux"), &build.vmlinux())?;
        if flavour == Flavour::EmulatedHost {
            copy(
                &self.objects.join("arch/x86/boot/bzImage"),
                &build.bzimage(),
            )?;
        }
        copy(&self.objects.join(".config"), &build.file("config"))?;
        copy(&self.objects.join("System.map"), &build.file("System.map"))?;
        if flavour == Flavour::Guest {
            let symbols = Symbols::read(&build.file("System.map"))?;
            returns::write_returns(&build.vmlinux(), &symbols)?;
            static_calls::sort(&build.vmlinux(), &symbols)?;
            segments::lay_out(&build.vmlinux(), &symbols)?;
        }
        Ok(())
    }

    fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("remove {}", self.folder.display()))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Copies an ELF file without its symbols; `System.map` keeps them.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("strip")
        .arg("--strip-all")
        .arg("-o")
        .arg(to)
        .arg(from)
        .status()
        .context("run strip")?;
    ensure!(status.success(), "strip {} failed", from.display());
    Ok(())
}
