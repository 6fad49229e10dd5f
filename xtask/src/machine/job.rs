//! What is to run in a machine.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Platform;
use crate::paths;

/// Variables that a job inherits, beside all that begin with `BULKHEAD_` or `RUST_`.
const INHERITED: [&str; 4] = ["HOME", "PATH", "USER", "LANG"];

/// A command and what it needs.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    command: Vec<String>,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    shared: Vec<PathBuf>,
    memory_mib: Option<u32>,
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
            environment: inherited_environment(),
            shared: Vec::new(),
            memory_mib: None,
            timeout: Duration::from_mins(15),
            kernel: None,
            command,
        };
        job.set("BULKHEAD_DIST", &paths::dist().display().to_string());
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

    pub(crate) fn with_memory_mib(mut self, memory_mib: Option<u32>) -> Self {
        self.memory_mib = memory_mib;
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

    /// Sets a variable of the job's environment.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(existing, _)| existing != name);
        self.environment.push((name.into(), value.into()));
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

    /// The kernel that was given to boot the machine with.
    pub(super) fn kernel(&self) -> Option<&Path> {
        self.kernel.as_deref()
    }

    /// The job as a script for the machine's shell.
    pub(super) fn script(&self) -> String {
        let mut script = String::from("#!/bin/sh\n");
        for (name, value) in &self.environment {
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

fn inherited_environment() -> Vec<(String, String)> {
    env::vars()
        .filter(|(name, _)| {
            INHERITED.contains(&name.as_str())
                || name.starts_with("BULKHEAD_")
                || name.starts_with("RUST_")
        })
        .collect()
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
