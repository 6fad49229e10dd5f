//! `bulkhead list`: the containers there are.

use std::fmt::Write;

use crate::context::Context;
use crate::error::Error;
use crate::state::State;

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How the list looks
    #[arg(long, short, value_enum, default_value = "table")]
    format: Format,
    /// Print ids only
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Prints the list.
pub(crate) fn execute(context: &Context, args: &Args) -> Result<u8, Error> {
    let states = states(context)?;
    let text = match args.format {
        _ if args.quiet => states
            .iter()
            .fold(String::new(), |text, state| text + state.id.as_str() + "\n"),
        Format::Table => table(&states),
        Format::Json => super::to_json(&states.iter().map(State::describe).collect::<Vec<_>>())?,
    };
    super::print(&text)
}

fn states(context: &Context) -> Result<Vec<State>, Error> {
    let mut states = Vec::new();
    for id in context.store.ids()? {
        match context.store.state(&id) {
            Ok(state) => states.push(state),
            // It went, or is not quite there yet; one that is damaged does not
            // hide the others.
            Err(error) => log::debug!("{}", crate::logging::chain(&error)),
        }
    }
    Ok(states)
}

fn table(states: &[State]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from)];
    rows.extend(states.iter().map(|state| {
        let pid = if state.monitor.is_alive() {
            state.monitor.pid
        } else {
            0
        };
        [
            state.id.to_string(),
            pid.to_string(),
            state.status().to_string(),
            state.bundle.display().to_string(),
            state.created.clone(),
            "root".to_owned(),
        ]
    }));
    let widths: Vec<_> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].len()).max())
        .collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{cell:<width$}", width = width.unwrap_or(0) + 3);
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Phase, tests::state};

    #[test]
    fn columns_are_aligned() {
        let text = table(&[state("a", Phase::Running), state("longer", Phase::Stopped)]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let column = lines[0].find("STATUS").unwrap();
        assert_eq!(&lines[1][column..column + 7], "running");
        assert_eq!(&lines[2][column..column + 7], "stopped");
    }
}
