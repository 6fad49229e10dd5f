//! `cargo xtask conformance`: Bulkhead, held against the OCI runtime specification
//! beside runtimes that are known to follow it.
//!
//! The cases are `bulkhead-tests`'s; here they are run, and what comes out is compared.

mod exclusions;
mod report;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub(super) use self::report::Report;

use self::exclusions::Exclusions;
use self::report::Verdict;
use super::format::Format;
use crate::cargo::{self, cargo};
use crate::machine::{self, Collected, Job, Platform};
use crate::progress::Step;
use crate::setup::{self, Need, Policy};
use crate::{dist, kvm, paths};

/// Where guests run if not on the machine's own KVM.
const PLATFORM: Platform = Platform::Amd { icount: false };

/// For all cases with all runtimes.
const TIMEOUT: Duration = Duration::from_mins(30);

/// Machines that a case may fail in before it has failed: emulators have bad days that
/// processors have not.
const TRIES: u32 = 3;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the cases whose names contain this
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,

    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    policy: Policy,
}

pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    let obstacle = kvm::obstacle();
    let mut needs = vec![Need::Build, Need::OtherRuntimes];
    if obstacle.is_some() {
        needs.extend(PLATFORM.needs());
    }
    setup::ensure(&needs, arguments.policy)?;
    dist::build()?;
    let report = compare(obstacle, arguments.filter.as_deref())?;
    match arguments.format {
        Format::Text => print!("{report}"),
        Format::Json => println!("{}", report.to_json()),
    }
    Ok(u8::from(report.is_failure()))
}

/// Tries what was built, and the others, with the cases whose names contain `filter`.
/// `obstacle` is why guests do not run right here.
pub(super) fn compare(obstacle: Option<&str>, filter: Option<&str>) -> Result<Report> {
    let exclusions = Exclusions::read()?;
    let suite = Suite::build()?;
    let names = suite.names(filter)?;
    let mut report = Report::new(names, exclusions);
    let step = Step::start(match obstacle {
        None => "conformance".into(),
        Some(obstacle) => format!("conformance, in an emulated AMD host: {obstacle}"),
    });
    match obstacle {
        None => report.add(suite.run_here(&report.open())?),
        Some(_) => suite.run_emulated(&mut report),
    }
    step.finish();
    Ok(report)
}

/// The program with the cases.
struct Suite(PathBuf);

impl Suite {
    fn build() -> Result<Self> {
        let build = ["build", "--quiet", "--package", "bulkhead-tests"];
        cargo::run(cargo().args(build).args(["--bin", "conformance"]))?;
        Ok(Self(paths::debug_binary("conformance")))
    }

    /// The names of its cases that contain `filter`.
    fn names(&self, filter: Option<&str>) -> Result<Vec<String>> {
        let output = Command::new(&self.0)
            .arg("--list")
            .output()
            .with_context(|| format!("start {}", self.0.display()))?;
        let names = String::from_utf8_lossy(&output.stdout);
        let is_wanted = |name: &&str| filter.is_none_or(|filter| name.contains(filter));
        let names: Vec<_> = names.lines().filter(is_wanted).map(Into::into).collect();
        ensure!(!names.is_empty(), "no case has such a name");
        let unique: BTreeSet<_> = names.iter().collect();
        ensure!(unique.len() == names.len(), "two cases have the same name");
        Ok(names)
    }

    /// The command that tries these cases: in a mount namespace of its own, for they
    /// mount.
    fn command(&self, cases: &[String]) -> Vec<OsString> {
        let bulkhead = paths::dist().join("bulkhead");
        let mut command: Vec<OsString> = vec!["unshare".into(), "--mount".into()];
        command.push(self.0.clone().into());
        for (name, program) in [
            ("runc", "runc".into()),
            ("crun", "crun".into()),
            (report::OURS, bulkhead.display().to_string()),
        ] {
            command.push(format!("--runtime={name}={program}").into());
        }
        command.extend(cases.iter().map(Into::into));
        command
    }

    fn run_here(&self, cases: &[String]) -> Result<Vec<Verdict>> {
        let command = self.command(cases);
        let output = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("start the cases")?;
        Verdict::parse_all(&output.stdout)
    }

    /// Tries the report's cases in emulated machines.
    fn run_emulated(&self, report: &mut Report) {
        for _ in 0..TRIES {
            let open = report.open();
            if open.is_empty() {
                break;
            }
            let verdicts = self.try_emulated(&open);
            match verdicts {
                Ok(verdicts) => report.add(verdicts),
                Err(error) => eprintln!("error: {error:#}"),
            }
        }
    }

    /// Tries cases in a fresh machine. What one that hangs has told until then counts.
    fn try_emulated(&self, cases: &[String]) -> Result<Vec<Verdict>> {
        let job = Job::new(&self.command(cases))?
            .sharing(&[self.0.clone(), paths::dist()])?
            .with_timeout(TIMEOUT);
        let output = Collected::default();
        let sink = Box::new(output.clone());
        if let Err(error) = machine::run(PLATFORM, &job, sink, Box::new(io::stderr())) {
            eprintln!("error: {error:#}");
        }
        Verdict::parse_all(&output.bytes())
    }
}
