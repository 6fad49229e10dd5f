//! `bulkhead bench startup`.

use std::env;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bulkhead_benches::measured::{self, Host, HostMoment, Named, Plan, Report};
use bulkhead_benches::{Interrupt, Size, Watch};
use bulkhead_vmm::host::{self, Virtualization};

use super::output::Output;
use crate::clock::Moment;
use crate::commands::{START_TIMEOUT, parse_seconds, to_json};
use crate::error::Error;
use crate::installation::Installation;
use crate::sys;

/// VMMs that are compared with where they are installed.
const VMMS: [(&str, &str); 3] = [
    ("qemu", "qemu-system-x86_64"),
    ("firecracker", "firecracker"),
    ("cloud-hypervisor", "cloud-hypervisor"),
];

/// As little memory as microVMs are usually measured with.
const MEMORY_MIB: u32 = 128;

/// Arguments of `bench startup`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Compare with this OCI runtime; may be repeated
    #[arg(long = "runtime", value_name = "NAME=PATH", value_parser = parse_named)]
    runtimes: Vec<Named>,
    /// Compare with this VMM (QEMU's microvm, Firecracker, Cloud Hypervisor), which
    /// boots the same guest kernel; may be repeated. Those that are installed are
    /// compared with in any case
    #[arg(long = "vmm", value_name = "NAME=PATH", value_parser = parse_named)]
    vmms: Vec<Named>,
    /// Leave out VMMs that are not named
    #[arg(long)]
    no_installed_vmms: bool,
    /// Samples of each figure
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = parse_count)]
    runs: usize,
    /// The most starts at once, and the most pods running beside a start
    #[arg(long, value_name = "C", default_value_t = 8, value_parser = parse_count)]
    concurrency: usize,
    /// vCPUs of each microVM
    #[arg(long, value_name = "N", default_value_t = 1)]
    vcpus: u32,
    /// Memory of each microVM
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_MIB)]
    memory: u32,
    /// How the report looks
    #[arg(long, short, value_enum, default_value = "text")]
    format: Format,
    /// Write the report to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How long a start, or an end, may take
    #[arg(long, value_name = "SECONDS", env = "BULKHEAD_START_TIMEOUT",
          default_value = START_TIMEOUT, value_parser = parse_seconds)]
    start_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Tables for a terminal
    Text,
    /// One JSON object (docs/bench.md)
    Json,
    /// One file with plots, for a browser
    Html,
}

/// Measures and reports. The exit code is 0 if nothing is missing, 128 + n after
/// an interrupt by signal n.
pub(super) fn execute(args: Args) -> Result<u8, Error> {
    let output = Output::open(args.output.clone())?;
    let interrupt = Interrupt::catch().map_err(Error::io("catch", "signals"))?;
    let watch = Watch::new(args.start_timeout, Some(Arc::new(interrupt)));
    let (format, plan) = (args.format, plan(args)?);
    let is_watched = io::stderr().is_terminal();
    let report = measured::run(&plan, &watch, &mut |step| {
        if is_watched {
            // Over the one before.
            eprint!("\r\x1b[K{step}");
        }
    })?;
    if is_watched {
        eprint!("\r\x1b[K");
    }
    output.write(&formatted(&report, format)?, &report)?;
    if format != Format::Text {
        complain(&report);
    }
    Ok(exit_code(&report))
}

fn plan(args: Args) -> Result<Plan, Error> {
    let facts = host::facts();
    let no_kvm = match host::judge(&facts) {
        Ok(()) => None,
        // Nothing is left to measure.
        Err(reason) if args.runtimes.is_empty() => return Err(reason.into()),
        Err(reason) => {
            log::warn!("without Bulkhead and VMMs: {reason}");
            Some(reason.to_string())
        }
    };
    let mut vmms = args.vmms;
    if !args.no_installed_vmms {
        add_installed(&mut vmms);
    }
    let path = Path::new("/proc/self/exe");
    Ok(Plan {
        bulkhead: env::current_exe().map_err(Error::io("find", path))?,
        kernel: Installation::find()
            .map_err(crate::monitor::MonitorError::from)?
            .kernel,
        no_kvm,
        runtimes: args.runtimes,
        vmms,
        runs: args.runs,
        concurrency: args.concurrency,
        size: Size {
            vcpus: args.vcpus,
            memory_mib: args.memory,
        },
        command: env::args().collect::<Vec<_>>().join(" "),
        host: Host {
            now,
            virtualization: facts.virtualization.map(name),
        },
    })
}

fn now() -> HostMoment {
    HostMoment {
        monotonic_ns: Moment::now().0,
        tsc: sys::tsc(),
    }
}

fn name(virtualization: Virtualization) -> &'static str {
    match virtualization {
        Virtualization::Vmx => "Intel VT-x",
        Virtualization::Svm => "AMD-V",
    }
}

/// Adds the VMMs in the search path that are not among those named.
fn add_installed(vmms: &mut Vec<Named>) {
    let folders: Vec<_> = env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default();
    for (name, program) in VMMS {
        let mut found = folders.iter().map(|folder| folder.join(program));
        if let Some(program) = found.find(|path| path.is_file())
            && vmms.iter().all(|vmm| vmm.name != name)
        {
            vmms.push(Named {
                name: name.into(),
                program,
            });
        }
    }
}

fn formatted(report: &Report, format: Format) -> Result<String, Error> {
    match format {
        Format::Text => Ok(report.to_string()),
        Format::Json => to_json(report),
        Format::Html => Ok(report.to_html()),
    }
}

/// Says what is missing, for those who do not see it in the report.
fn complain(report: &Report) {
    for subject in &report.subjects {
        if let Some(failure) = &subject.failure {
            let (name, during) = (&subject.name, &failure.during);
            log::error!("{name} failed ({during}): {}", failure.message);
        }
    }
    if let Some(signal) = report.interrupted_by_signal {
        log::error!("interrupted by signal {signal}; the report has what there was");
    }
}

fn exit_code(report: &Report) -> u8 {
    match report.interrupted_by_signal {
        Some(signal) => 128 + signal,
        None => u8::from(report.is_incomplete()),
    }
}

fn parse_named(text: &str) -> Result<Named, String> {
    match text.split_once('=') {
        Some((name, program)) if is_name(name) && !program.is_empty() => Ok(Named {
            name: name.into(),
            program: program.into(),
        }),
        _ => Err("expected NAME=PATH, the name of letters, digits, '-', '_' and '.'".into()),
    }
}

/// A name is a directory's, too.
fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(is_plain)
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number greater than zero".into()),
        Ok(count) => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named() {
        let runc = parse_named("runc=/usr/sbin/runc").unwrap();
        assert_eq!(
            (runc.name.as_str(), runc.program),
            ("runc", "/usr/sbin/runc".into())
        );
        for text in ["runc", "=/usr/sbin/runc", "runc=", "../x=/a", "a b=/c"] {
            assert!(parse_named(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn counts_are_greater_than_zero() {
        assert_eq!(parse_count("3"), Ok(3));
        for text in ["", "0", "-1", "x"] {
            assert!(parse_count(text).is_err(), "{text:?}");
        }
    }
}
