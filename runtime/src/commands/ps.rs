//! `bulkhead ps`: the processes in a container.

use bulkhead_protocol::{ProcessInfo, RequestBody, Response};

use crate::context::Context;
use crate::error::Error;
use crate::id::ContainerId;
use crate::state::State;
use crate::text_table::{printable, render};

/// Arguments of `ps`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How the list looks
    #[arg(long, short, value_enum, default_value = "table")]
    format: Format,
    /// The container's id
    id: String,
    /// Options of ps(1), accepted for engines: the columns are always the same
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// The container's processes, by their pids in the guest
    Table,
    /// Pids of the host: the process that stands for the container
    Json,
}

/// Prints the processes.
pub(crate) fn execute(context: &Context, args: &Args) -> Result<u8, Error> {
    let id = ContainerId::parse(&args.id)?;
    let state = context.store.state(&id)?;
    let text = match args.format {
        Format::Json => super::to_json(&pids_of_host(&state))?,
        Format::Table => table(&processes(context, &state)?),
    };
    super::print(&text)
}

/// Engines look these up among the host's processes: pids of a guest would be
/// somebody else's there.
fn pids_of_host(state: &State) -> Vec<i32> {
    let is_there = state.monitor.is_alive();
    is_there.then_some(state.monitor.pid).into_iter().collect()
}

fn processes(context: &Context, state: &State) -> Result<Vec<ProcessInfo>, Error> {
    let container = state.id.to_string();
    let request = RequestBody::Processes { container };
    match super::ask(context, state, "list the processes of", request)? {
        Response::Processes(processes) => Ok(processes),
        _ => Err(super::strange_answer(state, "list the processes of")),
    }
}

fn table(processes: &[ProcessInfo]) -> String {
    let header = ["UID", "PID", "PPID", "C", "ELAPSED", "TTY", "TIME", "CMD"];
    let mut rows = vec![header.map(String::from)];
    rows.extend(processes.iter().map(row));
    render(&rows)
}

fn row(process: &ProcessInfo) -> [String; 8] {
    let used = process.cpu_ms / 1000;
    // Percent of a processor: 10 ms of each second.
    let share = process.cpu_ms / 10 / process.age_s.max(1);
    [
        process.uid.to_string(),
        process.pid.to_string(),
        process.parent.to_string(),
        share.min(99).to_string(),
        clock(process.age_s),
        terminal(process.terminal),
        clock(used),
        printable(&process.command),
    ]
}

fn clock(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

/// Pseudo-terminals have the major numbers 136 to 143, and all there are minors
/// of the first in our guests.
fn terminal(device: u32) -> String {
    match (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00) {
        (136, minor) => format!("pts/{minor}"),
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_those_of_ps() {
        let process = ProcessInfo {
            pid: 7,
            parent: 1,
            uid: 33,
            cpu_ms: 3_661_000,
            age_s: 7322,
            terminal: 136 << 8 | 2,
            command: "sh -c \x1b".into(),
        };
        let text = table(&[process]);
        let row = text.lines().nth(1).unwrap();
        let cells: Vec<_> = row.split_whitespace().collect();
        let expected = [
            "33", "7", "1", "50", "02:02:02", "pts/2", "01:01:01", "sh", "-c", "?",
        ];
        assert_eq!(cells, expected);
    }
}
