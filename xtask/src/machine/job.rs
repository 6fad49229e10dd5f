//! What is to run in a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Platform;
use super::image::Root;
use crate::paths;

/// Variables that a job inherits where it sees the files that they are about.
const OF_THIS_MACHINE: [&str; 4] = ["HOME", "LANG", "PATH", "USER"];

/// Beginnings of the variables that every job inherits.
const OF_THE_PROJECT: [&str; 2] = ["BULKHEAD_", "RUST_"];

/// How long a guest may take to start; the runtime's own default is for real machines.
const START_TIMEOUT_SECONDS: &str = "150";

/// The version of the machine's cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Cgroups {
    /// A hierarchy for each controller.
    V1,
    /// One for all.
    #[default]
    V2,
}

impl Cgroups {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// A command and what it needs.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    command: Vec<String>,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
    shared: Vec<PathBuf>,
    memory_mib: Option<u32>,
    cpus: u32,
    cgroups: Cgroups,
    pub(super) timeout: Duration,
    kernel: Option<PathBuf>,
}

impl Job {
    /// A job that runs `command` in the current folder, with the build at hand.
    pub(crate) fn new(command: &[OsString]) -> Result<Self> {
        let command = command
            .iter()
            .map(|word| word.to_str().map(String::from))
            .collect::<Option<Vec<_>>>()
            .context("the command is not UTF-8")?;
        let mut job = Self {
            folder: env::current_dir().context("find the current folder")?,
            environment: environment(),
            shared: Vec::new(),
            memory_mib: None,
            cpus: 1,
            cgroups: Cgroups::default(),
            timeout: Duration::from_mins(15),
            kernel: None,
            command,
        };
        if paths::dist().exists() {
            job.share(&paths::dist())?;
        }
        if let Some(program) = job.command.first().filter(|word| word.contains('/')) {
            let program = PathBuf::from(program);
            job.share(&program)?;
        }
        Ok(job)
    }

    /// Makes these files and folders visible, at the same paths.
    pub(crate) fn sharing(mut self, paths: &[PathBuf]) -> Result<Self> {
        for path in paths {
            self.share(path)?;
        }
        Ok(self)
    }

    /// Sets a variable in the job's environment.
    pub(crate) fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    pub(crate) fn with_memory_mib(mut self, memory_mib: Option<u32>) -> Self {
        self.memory_mib = memory_mib;
        self
    }

    /// CPUs of the machine; on AMD alone.
    pub(crate) fn with_cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    pub(crate) fn with_cgroups(mut self, cgroups: Cgroups) -> Self {
        self.cgroups = cgroups;
        self
    }

    pub(crate) fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Boots the machine with this kernel instead of ours.
    pub(crate) fn with_kernel(mut self, kernel: Option<PathBuf>) -> Self {
        self.kernel = kernel;
        self
    }

    /// Every file and folder that the job was said to need, as absolute paths.
    pub(super) fn shared(&self) -> &[PathBuf] {
        &self.shared
    }

    /// All that has to be visible where the machine's own files are, whatever is
    /// mounted over them: beside what is shared, the clone and what belongs to it.
    pub(super) fn visible(&self) -> Result<BTreeSet<PathBuf>> {
        let mut paths = BTreeSet::from([
            paths::root().to_path_buf(),
            paths::target(),
            paths::cache()?,
            self.folder.clone(),
        ]);
        paths.retain(|path| path.exists());
        paths.extend(self.shared.iter().cloned());
        Ok(paths)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Memory of the machine.
    pub(super) fn memory_mib(&self, platform: Platform) -> u32 {
        self.memory_mib.unwrap_or(platform.default_memory_mib())
    }

    /// CPUs of the machine.
    pub(super) fn cpus(&self) -> u32 {
        self.cpus
    }

    /// The version of the machine's cgroups.
    pub(super) fn cgroups(&self) -> Cgroups {
        self.cgroups
    }

    /// The kernel that was given to boot the machine with.
    pub(super) fn kernel(&self) -> Option<&Path> {
        self.kernel.as_deref()
    }

    /// The job as a script for the machine's shell.
    pub(super) fn script(&self, root: Root) -> String {
        let mut environment = match root {
            Root::Machine => inherited(|name| OF_THIS_MACHINE.contains(&name)),
            Root::Packed => variables([("HOME", "/root"), ("PATH", "/bin")]),
        };
        environment.extend(self.environment.clone());
        let mut script = String::from("#!/bin/sh\n");
        for (name, value) in &environment {
            let _ = writeln!(script, "export {name}={}", quote(value));
        }
        let _ = writeln!(
            script,
            "cd {} || exit 125",
            quote(&self.folder.to_string_lossy())
        );
        let words: Vec<_> = self.command.iter().map(|word| quote(word)).collect();
        let _ = writeln!(script, "exec {}", words.join(" "));
        script
    }

    fn share(&mut self, path: &Path) -> Result<()> {
        let context = || format!("share {}", path.display());
        let path = path::absolute(path).with_context(context)?;
        fs::metadata(&path).with_context(context)?;
        if !self.shared.contains(&path) {
            self.shared.push(path);
        }
        Ok(())
    }
}

fn environment() -> BTreeMap<String, String> {
    let dist = paths::dist().display().to_string();
    let mut environment = variables([("BULKHEAD_START_TIMEOUT", START_TIMEOUT_SECONDS)]);
    let ours = |name: &str| OF_THE_PROJECT.iter().any(|start| name.starts_with(start));
    environment.extend(inherited(ours));
    environment.extend(variables([("BULKHEAD_DIST", dist.as_str())]));
    environment
}

fn inherited(is_wanted: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| is_wanted(name))
        .collect()
}

fn variables<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(name, value)| (name.into(), value.into()))
        .into()
}

/// Quotes a word for the shell.
pub(super) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quoted_words_stay_one_word() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
    }
}
