//! `bulkhead list`: the containers there are.

use std::fs;

use crate::context::Context;
use crate::error::Error;
use crate::state::{Description, State};
use crate::text_table::render;

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

/// A container, and whose it is.
struct Listed {
    state: State,
    owner: String,
}

/// Prints the list.
pub(crate) fn execute(context: &Context, args: &Args) -> Result<u8, Error> {
    let containers = containers(context)?;
    let text = match args.format {
        _ if args.quiet => containers.iter().fold(String::new(), |text, container| {
            text + container.state.id.as_str() + "\n"
        }),
        Format::Table => table(&containers),
        Format::Json => super::to_json(&containers.iter().map(describe).collect::<Vec<_>>())?,
    };
    super::print(&text)
}

fn containers(context: &Context) -> Result<Vec<Listed>, Error> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut containers = Vec::new();
    for id in context.store.ids()? {
        let listed = context.store.state(&id).and_then(|state| {
            let owner = user_name(&users, context.store.owner(&id)?);
            Ok(Listed { state, owner })
        });
        match listed {
            Ok(listed) => containers.push(listed),
            // It went, or is not quite there yet; one that is damaged does not
            // hide the others.
            Err(error) => log::debug!("{}", crate::logging::chain(&error)),
        }
    }
    Ok(containers)
}

/// The name of a user by passwd(5), or like runc the id if it has none.
fn user_name(users: &str, uid: u32) -> String {
    let uid = uid.to_string();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

fn describe(container: &Listed) -> Description<'_> {
    container.state.describe().owned_by(&container.owner)
}

fn table(containers: &[Listed]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from)];
    rows.extend(containers.iter().map(|Listed { state, owner }| {
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
            owner.clone(),
        ]
    }));
    render(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Phase, tests::state};

    #[test]
    fn columns_are_aligned() {
        let listed = |id, phase| Listed {
            state: state(id, phase),
            owner: "root".to_owned(),
        };
        let text = table(&[
            listed("a", Phase::Running),
            listed("longer", Phase::Stopped),
        ]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let column = lines[0].find("STATUS").unwrap();
        assert_eq!(&lines[1][column..column + 7], "running");
        assert_eq!(&lines[2][column..column + 7], "stopped");
    }

    #[test]
    fn owners_have_names() {
        let users = "root:x:0:0::/root:/bin/sh\nodd\nalice:x:1999:1999::/:/bin/sh\n";
        assert_eq!(user_name(users, 1999), "alice");
        assert_eq!(user_name(users, 1), "#1");
    }
}
