//! The verbs, a file each: its arguments, and what it does with them.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod checkpoint;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod features;
pub(crate) mod fsd;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod monitor;
pub(crate) mod pause;
mod pid_file;
mod pidfd_socket;
pub(crate) mod ps;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod update;
pub(crate) mod vmm;

use std::ffi::CStr;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_protocol::{RequestBody, Response};

use crate::agent::{AgentError, Connection, PATIENCE};
use crate::cli::Command;
use crate::context::Context;
use crate::error::Error;
use crate::state::State;

/// How long a guest may take to be up, in seconds. Real hosts need less than
/// one; emulated ones are slow.
const START_TIMEOUT: &str = "30";

/// What `run` and `create` have in common.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ContainerArgs {
    /// The bundle's directory
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Write the pid of the process that stands for the container to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Send a pidfd of that process to this socket
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Send the container's terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// How long the guest may take to be up
    #[arg(long, value_name = "SECONDS", env = "BULKHEAD_START_TIMEOUT",
          default_value = START_TIMEOUT, value_parser = parse_seconds)]
    pub(crate) start_timeout: Duration,
    /// Accepted for engines: the root is changed in the guest
    #[arg(long, hide = true)]
    pub(crate) no_pivot: bool,
    /// Accepted for engines: the agent reaps in the guest
    #[arg(long, hide = true)]
    pub(crate) no_subreaper: bool,
    /// Accepted for engines: keys are kept in the guest
    #[arg(long, hide = true)]
    pub(crate) no_new_keyring: bool,
    /// File descriptors to pass to the container; more than none is refused
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub(crate) preserve_fds: u32,
}

impl ContainerArgs {
    fn check(&self) -> Result<(), Error> {
        refuse_preserved_fds(self.preserve_fds)
    }
}

fn refuse_preserved_fds(count: u32) -> Result<(), Error> {
    if count == 0 {
        Ok(())
    } else {
        Err(Error::PreserveFds { count })
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Executes a verb, and returns the exit code.
pub(crate) fn execute(command: Command, context: &Context) -> Result<u8, Error> {
    match command {
        Command::Run(args) => run::execute(context, args),
        Command::Create(args) => create::execute(context, &args),
        Command::Start(args) => start::execute(context, &args),
        Command::State(args) => state::execute(context, &args),
        Command::Kill(args) => kill::execute(context, &args),
        Command::Delete(args) => delete::execute(context, &args),
        Command::Exec(args) => exec::execute(context, &args),
        Command::List(args) => list::execute(context, &args),
        Command::Ps(args) => ps::execute(context, &args),
        Command::Pause(args) => pause::pause(context, &args),
        Command::Resume(args) => pause::resume(context, &args),
        Command::Update(args) => update::execute(context, &args),
        Command::Events(args) => events::execute(context, &args),
        Command::Features => features::execute(),
        Command::Checkpoint(_) => checkpoint::refuse("checkpoint"),
        Command::Restore(_) => checkpoint::refuse("restore"),
        Command::Spec(args) => spec::execute(&args),
        Command::Check(args) => check::execute(&args),
        Command::Monitor(args) => monitor::execute(context, args),
    }
}

/// Asks a container's agent. `verb` is what for, as in "cannot VERB container".
fn ask(
    context: &Context,
    state: &State,
    verb: &'static str,
    request: RequestBody,
) -> Result<Response, Error> {
    let id = &state.id;
    if !state.status().can_signal() {
        let id = id.clone();
        return Err(Error::NotRunning { verb, id });
    }
    let dir = context.sandbox_dir(id)?;
    let answer =
        Connection::dial(&dir, PATIENCE).and_then(|mut agent| agent.call(request, PATIENCE));
    answer.map_err(|source| Error::Agent {
        verb,
        id: id.clone(),
        source,
    })
}

/// An answer to something else.
fn strange_answer(state: &State, verb: &'static str) -> Error {
    Error::Agent {
        verb,
        id: state.id.clone(),
        source: AgentError::UnexpectedReply,
    }
}

/// Gives the process a name for `ps`; it was started by way of
/// `/proc/self/exe`, and would be called so.
fn name_process(name: &CStr) {
    // It is only a name.
    let _ = rustix::thread::set_name(name);
}

/// Leaves the caller's session, so that what is typed at its terminal is not
/// for this process.
fn leave_session() {
    // Fails only for a process that leads its group, as when it was started
    // by hand; it then stays in its session.
    let _ = rustix::process::setsid();
}

/// Writes a result to standard output.
fn print(text: &str) -> Result<u8, Error> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(Error::io("write to", "standard output"))?;
    Ok(0)
}

/// A value as indented JSON, with a line's end.
fn to_json(value: &impl serde::Serialize) -> Result<String, Error> {
    let json = serde_json::to_string_pretty(value);
    let json = json.map_err(|error| Error::io("encode", "the result")(error.into()))?;
    Ok(json + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(parse_seconds("3"), Ok(Duration::from_secs(3)));
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["", "soon", "-1", "nan", "inf"] {
            assert!(parse_seconds(text).is_err(), "{text:?}");
        }
    }
}
