//! What came out of the tests.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) ignored: u32,
    /// Of those that passed, how many did not at first.
    pub(super) second_try: u32,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.second_try += other.second_try;
    }
}

impl Counts {
    /// A single check.
    pub(super) fn of_check(passed: bool) -> Self {
        Self {
            passed: passed.into(),
            failed: (!passed).into(),
            ..Self::default()
        }
    }

    /// These, given how the program that ran the tests ended: one that crashed or
    /// hung is a failure, even if no test of its was one.
    pub(super) fn given(mut self, success: bool) -> Self {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        self
    }

    /// Adds what a line of a test program's output says; most say nothing.
    fn add_line(&mut self, line: &str) {
        let Some((_, numbers)) = line
            .strip_prefix("test result: ")
            .and_then(|result| result.split_once(". "))
        else {
            return;
        };
        for number in numbers.split("; ") {
            match number.split_once(' ') {
                Some((n, "passed")) => self.passed += n.parse().unwrap_or(0),
                Some((n, "failed")) => self.failed += n.parse().unwrap_or(0),
                Some((n, "ignored")) => self.ignored += n.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// All steps of a run, in order.
#[derive(Debug, Default)]
pub(super) struct Results {
    steps: Vec<(String, Counts, Duration)>,
}

impl Results {
    pub(super) fn add(&mut self, step: impl Into<String>, counts: Counts, took: Duration) {
        self.steps.push((step.into(), counts, took));
    }

    pub(super) fn failed(&self) -> u32 {
        self.steps.iter().map(|(_, counts, _)| counts.failed).sum()
    }

    fn passed(&self) -> u32 {
        self.steps.iter().map(|(_, counts, _)| counts.passed).sum()
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for (step, counts, took) in &self.steps {
            let mark = if counts.failed == 0 { '✓' } else { '✗' };
            write!(f, "{mark} {step:<40} {:>7.1} s", took.as_secs_f64())?;
            write!(f, "{:>6} passed{:>4} failed", counts.passed, counts.failed)?;
            if counts.ignored > 0 {
                write!(f, "{:>4} ignored", counts.ignored)?;
            }
            if counts.second_try > 0 {
                write!(f, "{:>4} at the second try", counts.second_try)?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        write!(f, "{} passed, {} failed", self.passed(), self.failed())
    }
}

/// What a test program that is still running has told.
#[derive(Debug, Default)]
struct Told {
    counts: Counts,
    passed: BTreeSet<String>,
}

/// The counts of a test program that is still running.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter(Arc<Mutex<Told>>);

impl Counter {
    pub(super) fn get(&self) -> Counts {
        self.lock().counts
    }

    /// The names of the tests that have passed.
    pub(super) fn passed(&self) -> BTreeSet<String> {
        self.lock().passed.clone()
    }

    fn add_line(&self, line: &str) {
        let mut told = self.lock();
        told.counts.add_line(line);
        let test = line.strip_prefix("test ");
        told.passed.extend(
            test.and_then(|test| test.strip_suffix(" ... ok"))
                .map(String::from),
        );
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows the output of a test program line by line, and counts its results.
pub(super) struct Watched {
    label: String,
    line: Vec<u8>,
    counts: Counter,
}

impl Watched {
    /// A watch that puts `label` before each line, and where the counts will be.
    pub(super) fn new(label: impl Into<String>) -> (Self, Counter) {
        let counts = Counter::default();
        let watched = Self {
            label: label.into(),
            line: Vec::new(),
            counts: counts.clone(),
        };
        (watched, counts)
    }

    fn end_line(&mut self) -> io::Result<()> {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        self.counts.add_line(line.trim_end());
        writeln!(io::stdout(), "{}{}", self.label, line.trim_end())
    }
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            if byte == b'\n' {
                self.end_line()?;
            } else {
                self.line.push(byte);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            // Nobody is left to tell that standard output is gone.
            let _ = self.end_line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Watched};
    use std::io::Write;

    #[test]
    fn results_of_test_programs_are_counted() {
        let mut counts = Counts::default();
        counts.add_line("running 3 tests");
        counts.add_line("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        counts.add_line(
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        );
        let expected = Counts {
            passed: 15,
            failed: 2,
            ignored: 1,
            second_try: 0,
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn a_line_may_come_in_pieces() {
        let (mut watched, counts) = Watched::new("");
        for piece in ["test result: o", "k. 1 passed; 0 fai", "led; 0 ignored\n"] {
            watched.write_all(piece.as_bytes()).unwrap();
        }
        assert_eq!(counts.get().passed, 1);
    }

    #[test]
    fn tests_that_passed_are_known_by_name() {
        let (mut watched, counts) = Watched::new("");
        writeln!(
            watched,
            "test a::b ... ok\ntest a::c ... FAILED\ntest a::d ..."
        )
        .unwrap();
        assert_eq!(counts.passed(), ["a::b".to_owned()].into());
    }

    #[test]
    fn a_crash_is_a_failure() {
        assert_eq!(Counts::default().given(false).failed, 1);
    }
}
