//! What can be said about a machine that went wrong.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// How much of a log is shown.
const TAIL_LINES: usize = 60;

/// Registers that say nothing about where a CPU is.
const VECTORS: [&str; 6] = ["FCW", "FPR", "XMM", "YMM", "ZMM", "Opmask"];

/// The registers that tell where a CPU is, from all that QEMU's monitor prints.
pub(super) fn general_registers(all: &str) -> String {
    let mut text = String::from("--- registers of the machine's CPU:\n");
    for line in all.lines().filter(|line| !line.trim().is_empty()) {
        if !VECTORS.iter().any(|name| line.starts_with(name)) {
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text
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
