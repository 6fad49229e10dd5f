//! QEMU's machine protocol, as far as needed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// QEMU answers at once; a wedged one is killed anyway.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The registers of the machine's CPU, as QEMU's monitor prints them.
pub(super) fn registers(socket: &Path) -> Result<String> {
    let mut stream = UnixStream::connect(socket).context("connect to QEMU's monitor")?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut answers = BufReader::new(stream.try_clone()?).lines();
    // The greeting comes first.
    answers.next().context("QEMU's monitor says nothing")??;
    execute(
        &mut stream,
        &mut answers,
        &json!({"execute": "qmp_capabilities"}),
    )?;
    let command = json!({
        "execute": "human-monitor-command",
        "arguments": {"command-line": "info registers"},
    });
    let answer = execute(&mut stream, &mut answers, &command)?;
    let text = answer.as_str().context("QEMU's registers are no text")?;
    Ok(text.into())
}

/// Sends a command and gives its result, passing over events.
fn execute(
    stream: &mut UnixStream,
    answers: &mut impl Iterator<Item = std::io::Result<String>>,
    command: &Value,
) -> Result<Value> {
    writeln!(stream, "{command}")?;
    loop {
        let line = answers.next().context("QEMU's monitor hung up")??;
        let mut answer: Value = serde_json::from_str(&line)?;
        if let Some(result) = answer.get_mut("return") {
            return Ok(result.take());
        }
        if let Some(error) = answer.get("error") {
            anyhow::bail!("QEMU's monitor refuses {command}: {error}");
        }
    }
}
