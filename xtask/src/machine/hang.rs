//! What can be said about a machine that hung.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::session::End;

/// The exit code of a job that did not end in time, as timeout(1) has it.
pub(super) const EXIT_CODE: u8 = 124;

/// How much of a log is shown.
const TAIL_LINES: usize = 60;

/// Registers that say nothing about where a CPU is.
const VECTORS: [&str; 6] = ["FCW", "FPR", "XMM", "YMM", "ZMM", "Opmask"];

/// Says on standard error that and where the machine hung.
pub(super) fn describe(end: End, timeout: Duration, console: &Path, registers: Option<&str>) {
    match end {
        End::BootTimeout => eprintln!("error: the machine did not come up"),
        _ => eprintln!("error: the job did not end within {} s", timeout.as_secs()),
    }
    eprint!("{}", tail(console));
    if let Some(registers) = registers {
        eprintln!("--- registers of the machine's CPU:");
        registers
            .lines()
            .filter(|line| !VECTORS.iter().any(|name| line.starts_with(name)))
            .for_each(|line| eprintln!("{}", line.trim_end()));
    }
}

/// The last lines of a log, headed by its name; empty if there is none.
pub(super) fn tail(log: &Path) -> String {
    let Ok(bytes) = fs::read(log) else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    let name = log.file_name().unwrap_or_default().display();
    format!("--- last lines of {name}:\n{}\n", last.join("\n"))
}
