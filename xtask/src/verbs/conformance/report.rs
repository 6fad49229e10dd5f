//! What came out, case by case.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::exclusions::Exclusions;

/// What Bulkhead is called in the results.
pub(super) const OURS: &str = "bulkhead";

/// The runtimes, in the table's order.
const RUNTIMES: [&str; 3] = ["runc", "crun", OURS];

/// How a runtime did in a case, as the program with the cases prints it.
#[derive(Debug, Deserialize)]
pub(super) struct Verdict {
    case: String,
    runtime: String,
    passed: bool,
    reason: Option<String>,
}

impl Verdict {
    /// Reads them, a line each; one that breaks off does not count.
    pub(super) fn parse_all(lines: &[u8]) -> Result<Vec<Self>> {
        let text = String::from_utf8_lossy(lines);
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).with_context(|| format!("read {line:?}")))
            .collect()
    }
}

/// How the runtimes did in a case: nothing if clean, else the reason.
type Row = BTreeMap<String, Option<String>>;

/// The results of all cases.
#[derive(Debug)]
pub(crate) struct Report {
    /// Names of cases, in their order.
    names: Vec<String>,
    rows: BTreeMap<String, Row>,
    exclusions: Exclusions,
}

impl Report {
    /// One on these cases, none of them tried yet.
    pub(super) fn new(names: Vec<String>, exclusions: Exclusions) -> Self {
        Self {
            names,
            rows: BTreeMap::new(),
            exclusions,
        }
    }

    /// Adds verdicts; who was clean in a case once stays so.
    pub(super) fn add(&mut self, verdicts: Vec<Verdict>) {
        for verdict in verdicts {
            let row = self.rows.entry(verdict.case).or_default();
            let is_clean = row.get(&verdict.runtime) == Some(&None);
            if !is_clean {
                let reason = (!verdict.passed).then(|| verdict.reason.unwrap_or_default());
                row.insert(verdict.runtime, reason);
            }
        }
    }

    /// The cases that still have to show that Bulkhead is clean, or need not.
    pub(super) fn open(&self) -> Vec<String> {
        let is_open = |case: &&String| {
            let is_tried = self.rows.contains_key(*case);
            !is_tried || !(self.is_clean(case, OURS) || self.is_excluded(case))
        };
        self.names.iter().filter(is_open).cloned().collect()
    }

    /// How many cases are clean with Bulkhead.
    pub(crate) fn passed(&self) -> usize {
        self.count(OURS)
    }

    /// The cases that another runtime is clean in, and Bulkhead is not.
    pub(crate) fn failed(&self) -> Vec<&str> {
        let is_failed = |case: &&str| {
            let is_possible = RUNTIMES.iter().any(|runtime| self.is_clean(case, runtime));
            // One that nobody tried is one that something ended.
            let is_untried = !self.rows.contains_key(*case);
            (is_possible || is_untried) && !self.is_clean(case, OURS) && !self.is_excluded(case)
        };
        self.cases().filter(is_failed).collect()
    }

    /// The cases that do not count, as `docs/oci.md` says.
    pub(crate) fn excluded(&self) -> Vec<&str> {
        self.cases().filter(|case| self.is_excluded(case)).collect()
    }

    /// Whether Bulkhead lacks something.
    pub(crate) fn is_failure(&self) -> bool {
        !self.failed().is_empty()
    }

    /// One object with all of it.
    pub(super) fn to_json(&self) -> Value {
        let total = self.names.len();
        let counts = RUNTIMES.map(|runtime| {
            let passed = self.count(runtime);
            let counts = json!({ "passed": passed, "failed": total - passed });
            (runtime.to_owned(), counts)
        });
        let reason = |case| json!({ "name": case, "reason": self.exclusions.reason(case) });
        let excluded: Vec<_> = self.excluded().into_iter().map(reason).collect();
        let row = |case| json!({ "name": case, "reasons": self.rows.get(case) });
        json!({
            "passed": self.passed(),
            "failed": self.failed(),
            "excluded": excluded,
            "runtimes": serde_json::Map::from_iter(counts),
            "cases": self.cases().map(row).collect::<Vec<_>>(),
        })
    }

    fn cases(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    fn count(&self, runtime: &str) -> usize {
        self.cases()
            .filter(|case| self.is_clean(case, runtime))
            .count()
    }

    fn is_clean(&self, case: &str, runtime: &str) -> bool {
        self.rows.get(case).and_then(|row| row.get(runtime)) == Some(&None)
    }

    fn is_excluded(&self, case: &str) -> bool {
        self.exclusions.reason(case).is_some()
    }

    /// Why Bulkhead is not clean in a case.
    fn complaint(&self, case: &str) -> &str {
        let row = self.rows.get(case);
        let reason = row.and_then(|row| row.get(OURS)).and_then(Option::as_deref);
        reason.unwrap_or("it was not tried")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.cases().map(str::len).max().unwrap_or_default();
        write!(f, "{:width$}", "")?;
        for runtime in RUNTIMES {
            write!(f, "  {runtime:^8}")?;
        }
        writeln!(f)?;
        for case in self.cases() {
            write!(f, "{case:width$}")?;
            for runtime in RUNTIMES {
                let mark = if self.is_clean(case, runtime) {
                    "✓"
                } else if runtime == OURS && self.is_excluded(case) {
                    "–"
                } else {
                    "✗"
                };
                write!(f, "  {mark:^8}")?;
            }
            writeln!(f)?;
        }
        write!(f, "{:width$}", format!("clean, of {}", self.names.len()))?;
        for runtime in RUNTIMES {
            write!(f, "  {:^8}", self.count(runtime))?;
        }
        writeln!(f, "\n")?;
        for case in self.failed() {
            writeln!(f, "{case}: {}", self.complaint(case))?;
        }
        writeln!(
            f,
            "{} passed, {} failed, {} excluded (docs/oci.md says why)",
            self.passed(),
            self.failed().len(),
            self.excluded().len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Exclusions, Report, Verdict};

    fn report(lines: &[&str]) -> Report {
        let names = ["clean", "ours", "nobodys", "excluded", "untried"];
        let exclusions = Exclusions::parse("## Conformance\n| `excluded` | reason |\n");
        let mut report = Report::new(names.map(String::from).to_vec(), exclusions);
        for line in lines {
            let [case, runtime, passed] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            report.add(vec![Verdict {
                case: case.into(),
                runtime: runtime.into(),
                passed: passed == "passed",
                reason: None,
            }]);
        }
        report
    }

    const LINES: [&str; 9] = [
        "clean runc failed",
        "clean crun passed",
        "clean bulkhead passed",
        "ours runc passed",
        "ours bulkhead failed",
        "nobodys runc failed",
        "nobodys bulkhead failed",
        "excluded runc passed",
        "excluded bulkhead failed",
    ];

    #[test]
    fn what_others_can_and_we_cannot_is_a_failure() {
        let report = report(&LINES);
        assert_eq!(report.passed(), 1);
        assert_eq!(report.failed(), ["ours", "untried"]);
        assert_eq!(report.excluded(), ["excluded"]);
        assert_eq!(report.open(), ["ours", "nobodys", "untried"]);
        assert!(report.is_failure());
        let json = report.to_json();
        assert_eq!(json["runtimes"]["runc"]["passed"], 2);
        assert_eq!(json["excluded"][0]["reason"], "reason");
    }

    #[test]
    fn a_second_try_counts() {
        let mut lines = LINES.to_vec();
        lines.extend([
            "ours bulkhead passed",
            "clean bulkhead failed",
            "untried bulkhead passed",
        ]);
        let report = report(&lines);
        assert_eq!(report.passed(), 3);
        assert!(!report.is_failure());
    }
}
