//! Where messages go: standard error, or the file that the engine names.
//!
//! Podman and containerd read the last `msg` of a log in JSON to tell their
//! users what went wrong, so the lines are those of runc (logrus).

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// `time="…" level=error msg="…"`
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

/// The log file could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the log file {}", path.display())]
pub(crate) struct OpenError {
    path: PathBuf,
    source: io::Error,
}

struct Logger {
    file: Option<Mutex<File>>,
    format: Format,
    budget: Budget,
}

/// Most that a process of a sandbox logs, in bytes: a guest may find out how to
/// make it complain, and the log lies on a tmpfs as a rule.
const SANDBOX_LOG_MAX: u64 = 64 << 10;

/// How many bytes may still be logged.
struct Budget(Mutex<u64>);

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Log,
    /// It is the first that is too much; that is said instead.
    LastWord,
    Drop,
}

impl Budget {
    fn spend(&self, bytes: usize) -> Verdict {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = left.checked_sub(bytes as u64) {
            *left = rest;
            Verdict::Log
        } else if std::mem::take(&mut *left) > 0 {
            Verdict::LastWord
        } else {
            Verdict::Drop
        }
    }
}

/// Sends messages to `path`, or to standard error if there is none.
pub(crate) fn init(path: Option<&Path>, format: Format, debug: bool) -> Result<(), OpenError> {
    let open = |path: &Path| {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|source| OpenError {
                path: path.to_owned(),
                source,
            })
    };
    let file = path.map(open).transpose()?.map(Mutex::new);
    let level = if debug {
        LevelFilter::Debug
    } else {
        LevelFilter::Warn
    };
    install(file, format, u64::MAX, level);
    Ok(())
}

/// Sends messages of a process that a guest talks to to standard error, and
/// only so many.
pub(crate) fn init_for_sandbox() {
    install(None, Format::Text, SANDBOX_LOG_MAX, LevelFilter::Warn);
}

fn install(file: Option<Mutex<File>>, format: Format, budget: u64, level: LevelFilter) {
    let logger = Box::leak(Box::new(Logger {
        file,
        format,
        budget: Budget(Mutex::new(budget)),
    }));
    log::set_max_level(level);
    // Fails only if there is a logger already, which then does the work.
    let _ = log::set_logger(logger);
}

/// Tells of the error that ends this command: to the person at the terminal
/// in any case, and to the log file if there is one.
pub(crate) fn report(error: &dyn std::error::Error) {
    let message = chain(error);
    eprintln!("bulkhead: {message}");
    log::error!(target: REPORT, "{message}");
}

/// Writes down why this command ends, which standard error has been told.
pub(crate) fn record(message: &str) {
    log::error!(target: REPORT, "{message}");
}

/// What a command line says about the log, as far as can be told of one that is not
/// understood.
pub(crate) fn options_in(arguments: &[OsString]) -> (Option<PathBuf>, Format) {
    let value_of = |option: &str| {
        arguments.iter().enumerate().find_map(|(at, argument)| {
            if argument == option {
                return arguments.get(at + 1).cloned();
            }
            let value = argument.to_str()?.strip_prefix(option)?;
            value.strip_prefix('=').map(OsString::from)
        })
    };
    let format = match value_of("--log-format") {
        Some(format) if format == "json" => Format::Json,
        _ => Format::Text,
    };
    (value_of("--log").map(PathBuf::from), format)
}

/// Messages of this target have been shown on standard error already.
const REPORT: &str = "report";

/// An error and its causes, on one line unless a cause has several.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        let mut line = render(self.format, record.level(), &message, SystemTime::now());
        match self.budget.spend(line.len()) {
            Verdict::Log => {}
            Verdict::LastWord => {
                let last = "further messages are not logged";
                line = render(self.format, Level::Warn, last, SystemTime::now());
            }
            Verdict::Drop => return,
        }
        // There is nobody to tell that a message could not be written.
        let _ = match &self.file {
            Some(file) => match file.lock() {
                Ok(mut file) => file.write_all(line.as_bytes()),
                Err(_) => Ok(()),
            },
            None if record.target() == REPORT => Ok(()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}

fn render(format: Format, level: Level, message: &str, time: SystemTime) -> String {
    let time = humantime::format_rfc3339_seconds(time);
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    };
    let message = serde_json::Value::from(message);
    match format {
        Format::Text => format!("time=\"{time}\" level={level} msg={message}\n"),
        Format::Json => {
            format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn json_lines_are_what_podman_reads() {
        let line = render(Format::Json, Level::Error, "no \"x\"\nhere", UNIX_EPOCH);
        assert!(line.ends_with('\n'));
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["msg"], "no \"x\"\nhere");
        assert_eq!(value["time"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn text_lines_are_those_of_logrus() {
        let line = render(Format::Text, Level::Warn, "low on air", UNIX_EPOCH);
        assert_eq!(
            line,
            "time=\"1970-01-01T00:00:00Z\" level=warning msg=\"low on air\"\n"
        );
    }

    #[test]
    fn budget_is_spent_once() {
        let budget = Budget(Mutex::new(10));
        let verdicts = [6, 4, 1].map(|bytes| budget.spend(bytes));
        assert_eq!(verdicts, [Verdict::Log, Verdict::Log, Verdict::Drop]);
        let budget = Budget(Mutex::new(10));
        let verdicts = [6, 5, 1].map(|bytes| budget.spend(bytes));
        assert_eq!(verdicts, [Verdict::Log, Verdict::LastWord, Verdict::Drop]);
    }

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open the box")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("the lid is stuck"));
        assert_eq!(chain(&error), "cannot open the box: the lid is stuck");
    }
}
