//! Why a sandbox ended.

use bulkhead_vmm::exit::ExitReason;

use super::helper::Ending;

/// Why a sandbox ended although nobody had asked for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Demise {
    /// The VMM could not start the microVM.
    #[error("cannot start the microVM: {error}")]
    NotStarted {
        /// As the VMM tells it.
        error: String,
    },
    /// The microVM ended, and the VMM saw why.
    #[error("{}{}", describe(reason), quoted("the guest's console", console))]
    Guest {
        /// Why.
        reason: ExitReason,
        /// The console's last lines.
        console: String,
    },
    /// The VMM ended without a word.
    #[error("the VMM {ending}{}", quoted("its log", log))]
    Vmm {
        /// How.
        ending: Ending,
        /// Its log's last lines.
        log: String,
    },
    /// The file server ended.
    #[error("the file server {ending}{}", quoted("its log", log))]
    FileServer {
        /// How.
        ending: Ending,
        /// Its log's last lines.
        log: String,
    },
}

fn describe(reason: &ExitReason) -> String {
    match reason {
        ExitReason::TripleFault { vcpu } => {
            format!("the guest ended in a triple fault on vCPU {vcpu}")
        }
        other => other.to_string(),
    }
}

/// Text of somebody else's, set apart; nothing if there is none.
pub(crate) fn quoted(what: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = text.lines().map(|line| format!("  | {line}")).collect();
    format!("; the end of {what}:\n{}", lines.join("\n"))
}
