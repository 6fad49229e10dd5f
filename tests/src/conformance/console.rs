//! Terminals.

use anyhow::Result;
use serde_json::json;

use super::Check;
use super::bench::Bench;
use crate::terminal::ConsoleSocket;

pub(super) const CASES: &[(&str, Check)] = &[
    ("console", console),
    ("console_socket_missing", console_socket_missing),
    ("console_size", console_size),
];

fn console(bench: &Bench) -> Result<()> {
    shows(
        bench,
        "test -t 0 && test -t 1 && test -t 2 && stat -c %t:%T /dev/console | sed s/^88:/pts:/",
        "pts:",
        json!(null),
    )
}

fn console_size(bench: &Bench) -> Result<()> {
    let size = json!({ "height": 33, "width": 77 });
    shows(bench, "stty size", "33 77", size)
}

/// The container's terminal shows what a script prints.
fn shows(bench: &Bench, script: &str, expected: &str, size: serde_json::Value) -> Result<()> {
    let socket = ConsoleSocket::listen(bench.path().join("console"));
    let container = bench.container().script(&format!("{script}; sleep 1000"));
    let mut container = container.set("/process/terminal", json!(true));
    if !size.is_null() {
        container = container.set("/process/consoleSize", size);
    }
    container.create_with(&["--console-socket", socket.path()])?;
    let mut terminal = socket.take();
    container.start()?;
    terminal.wait_for(expected);
    container.stop()
}

fn console_socket_missing(bench: &Bench) -> Result<()> {
    let container = bench.container().set("/process/terminal", json!(true));
    container
        .try_create(&[])?
        .fails("a terminal that nobody takes")
}
