//! The end-to-end tests, on the machine's own KVM or in emulated machines.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::results::{Counts, Watched};
use crate::cargo::{cargo, line};
use crate::machine::{self, Cgroups, Job, Platform};
use crate::paths;

/// The tests that every kind of host has to pass.
const CORE_SET: &str = "core_set::";

/// Those for hosts with cgroup v1, which pass nowhere else.
const CGROUP_V1: &str = "cgroup_v1::";

/// Names the root file system with software to the tests that want one.
const SOFTWARE: &str = "BULKHEAD_TEST_SOFTWARE";

/// An emulated machine is some fifty times slower than a real one.
const TIMEOUT: Duration = Duration::from_mins(30);

/// Most failures that may be an emulator's fault.
const SECOND_TRIES: usize = 80;

/// Which of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// Those for a usual host, the core set among them.
    Usual,
    /// Those that every kind of host has to pass.
    CoreSet,
    /// Those for a host with cgroup v1.
    CgroupV1,
}

impl Group {
    fn has(self, name: &str) -> bool {
        match self {
            Self::Usual => !name.starts_with(CGROUP_V1),
            Self::CoreSet => name.starts_with(CORE_SET),
            Self::CgroupV1 => name.starts_with(CGROUP_V1),
        }
    }
}

/// An emulated machine to run tests in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EmulatedHost {
    Amd,
    AmdCgroupV1,
    Intel,
}

impl EmulatedHost {
    fn platform(self) -> Platform {
        match self {
            Self::Amd | Self::AmdCgroupV1 => Platform::Amd { icount: false },
            Self::Intel => Platform::Intel,
        }
    }

    fn cgroups(self) -> Cgroups {
        match self {
            Self::AmdCgroupV1 => Cgroups::V1,
            Self::Amd | Self::Intel => Cgroups::V2,
        }
    }

    /// What stands before each line of output.
    fn label(self) -> &'static str {
        match self {
            Self::Amd => "amd   | ",
            Self::AmdCgroupV1 => "v1    | ",
            Self::Intel => "intel | ",
        }
    }
}

/// What the tests consist of, all built.
#[derive(Clone, Debug)]
pub(super) struct EndToEnd {
    /// The program with the tests.
    tests: PathBuf,
    /// The program that they put into their containers.
    probe: PathBuf,
    /// The root file system with software that they want, if they do.
    software: Option<PathBuf>,
}

impl EndToEnd {
    /// Builds those of one target of the package.
    pub(super) fn build(target: &str) -> Result<Self> {
        let mut command = cargo();
        command
            .args(["test", "--quiet", "--package", "bulkhead-tests", "--no-run"])
            .args(["--message-format", "json"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let output = command.output().context("start cargo")?;
        if !output.status.success() {
            bail!("`{}` failed: {}", line(&command), output.status);
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        Ok(Self {
            tests: executable(&messages, "test", target)?,
            probe: executable(&messages, "bin", "probe")?,
            software: None,
        })
    }

    /// The same, with a root file system that has the software they test.
    pub(super) fn with_software(mut self, rootfs: PathBuf) -> Self {
        self.software = Some(rootfs);
        self
    }

    /// The names of the tests of a group that contain `filter`, if there is one.
    pub(super) fn names(&self, filter: Option<&str>, group: Group) -> Result<Vec<String>> {
        let mut command = Command::new(&self.tests);
        command.args(["--list", "--format", "terse"]);
        let output = command.output().context("list the end-to-end tests")?;
        if !output.status.success() {
            bail!("`{}` failed: {}", line(&command), output.status);
        }
        let names = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .filter(|name| filter.is_none_or(|filter| name.contains(filter)))
            .filter(|name| group.has(name))
            .map(String::from)
            .collect();
        Ok(names)
    }

    /// Runs the tests `names` right here.
    pub(super) fn run_here(&self, names: &[String]) -> Result<Counts> {
        let (mut watched, counts) = Watched::new("");
        let mut child = Command::new(&self.tests)
            .args(arguments(names))
            .env("BULKHEAD_DIST", paths::dist())
            .envs(self.software.iter().map(|rootfs| (SOFTWARE, rootfs)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", self.tests.display()))?;
        let mut output = child.stdout.take().context("standard output is a pipe")?;
        io::copy(&mut output, &mut watched).context("read the tests' output")?;
        drop(watched);
        let success = child.wait().context("wait for the tests")?.success();
        Ok(counts.get().given(success))
    }

    /// Runs the tests `names` in an emulated machine. An emulator has bad days that a
    /// processor has not: those that fail get a second try on a fresh machine, and are
    /// named.
    pub(super) fn run_emulated(&self, host: EmulatedHost, names: &[String]) -> Result<Counts> {
        let passed = self.try_emulated(host, names)?;
        let is_left = |name: &&String| !passed.contains(*name);
        let left: Vec<_> = names.iter().filter(is_left).cloned().collect();
        let mut counts = Counts {
            passed: passed.len() as u32,
            failed: left.len() as u32,
            ..Counts::default()
        };
        if (1..=SECOND_TRIES).contains(&left.len()) {
            println!("{}second try: {}", host.label(), left.join(", "));
            counts.second_try = self.try_emulated(host, &left)?.len() as u32;
            counts.passed += counts.second_try;
            counts.failed -= counts.second_try;
        }
        Ok(counts)
    }

    /// Which of the tests pass in an emulated machine.
    fn try_emulated(&self, host: EmulatedHost, names: &[String]) -> Result<BTreeSet<String>> {
        let mut command = vec![self.tests.clone().into_os_string()];
        command.extend(arguments(names).into_iter().map(OsString::from));
        let mut job = Job::new(&command)?
            .sharing(&[self.probe.clone(), paths::dist()])?
            .with_cgroups(host.cgroups())
            .with_timeout(TIMEOUT);
        if let Some(rootfs) = &self.software {
            job = job.with_variable(SOFTWARE, rootfs.to_str().context("a path is not UTF-8")?);
        }
        let (output, counts) = Watched::new(host.label());
        let (errors, _) = Watched::new(host.label());
        let (output, errors) = (Box::new(output), Box::new(errors));
        if let Err(error) = machine::run(host.platform(), &job, output, errors) {
            eprintln!("error: {error:#}");
        }
        Ok(counts.passed())
    }
}

/// One at a time: a test's fixture looks at all mounts and processes.
fn arguments(names: &[String]) -> Vec<String> {
    let mut arguments = vec!["--test-threads=1".into(), "--exact".into()];
    arguments.extend_from_slice(names);
    arguments
}

/// The path of a program that cargo has built, from what it says in JSON.
fn executable(messages: &str, kind: &str, name: &str) -> Result<PathBuf> {
    let found = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let target = &message["target"];
        // A binary is built twice: as itself, and as its own unit tests.
        let is_tests = message["profile"]["test"] == true;
        let is_it =
            target["kind"][0] == kind && target["name"] == name && is_tests == (kind == "test");
        let path = message["executable"].as_str()?;
        is_it.then(|| PathBuf::from(path))
    });
    found.with_context(|| format!("cargo has not built the {kind} {name}"))
}

#[cfg(test)]
mod tests {
    use super::executable;
    use serde_json::json;
    use std::path::Path;

    #[test]
    fn a_program_is_found_among_cargos_messages() {
        let artifact = |kind: &str, name: &str, is_test: bool, path: &str| {
            json!({
                "reason": "compiler-artifact",
                "target": {"kind": [kind], "name": name},
                "profile": {"test": is_test},
                "executable": path,
            })
        };
        let messages = [
            artifact("bin", "probe", true, "/deps/probe-1"),
            artifact("bin", "probe", false, "/probe"),
            artifact("test", "e2e", true, "/deps/e2e-1"),
            json!({"reason": "build-finished", "success": true}),
        ]
        .map(|message| message.to_string())
        .join("\n");
        assert_eq!(
            executable(&messages, "test", "e2e").unwrap(),
            Path::new("/deps/e2e-1")
        );
        assert_eq!(
            executable(&messages, "bin", "probe").unwrap(),
            Path::new("/probe")
        );
        assert!(executable(&messages, "bin", "other").is_err());
    }
}
