//! `bulkhead check`: whether this host can run guests.

use bulkhead_vmm::host::{self, Facts, Unsuitable};
use serde::Serialize;

use crate::error::Error;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How the answer looks
    #[arg(long, short, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// The answer in JSON.
#[derive(Debug, Serialize)]
struct Report {
    usable: bool,
    #[serde(flatten)]
    facts: Facts,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    #[serde(flatten)]
    finding: Unsuitable,
    /// What it is, and what to do about it.
    message: String,
}

/// Prints the answer; the exit code is 1 if it is no.
pub(crate) fn execute(args: &Args) -> Result<u8, Error> {
    let facts = host::facts();
    let verdict = host::judge(&facts);
    match args.format {
        Format::Text => {
            verdict?;
            let technology = facts
                .virtualization
                .map(|v| format!(" ({v})"))
                .unwrap_or_default();
            super::print(&format!("this host can run guests{technology}\n"))
        }
        Format::Json => {
            super::print(&super::to_json(&report(facts, verdict))?)?;
            Ok(u8::from(verdict.is_err()))
        }
    }
}

fn report(facts: Facts, verdict: Result<(), Unsuitable>) -> Report {
    let problem = verdict.err().map(|finding| Problem {
        finding,
        message: finding.to_string(),
    });
    Report {
        usable: problem.is_none(),
        facts,
        problem,
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_vmm::host::{KvmDevice, Virtualization};

    use super::*;

    fn json(virtualization: Option<Virtualization>) -> serde_json::Value {
        let kvm = KvmDevice::Open { api_version: 12 };
        let facts = Facts {
            virtualization,
            hypervisor: true,
            kvm,
        };
        serde_json::to_value(report(facts, host::judge(&facts))).unwrap()
    }

    #[test]
    fn good_host_has_no_problem() {
        let json = json(Some(Virtualization::Vmx));
        assert_eq!(json["usable"], true);
        assert_eq!(json["virtualization"], "vmx");
        assert!(json.get("problem").is_none());
    }

    #[test]
    fn software_kvm_is_a_problem_with_advice() {
        let json = json(None);
        assert_eq!(json["usable"], false);
        assert_eq!(json["problem"]["finding"], "software-kvm");
        assert!(
            json["problem"]["message"]
                .as_str()
                .unwrap()
                .contains("use a machine")
        );
    }
}
