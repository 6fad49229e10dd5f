//! `bulkhead kill`: sends a signal to a container.

use std::time::Duration;

use bulkhead_protocol::{ErrorKind, ProcessId, RequestBody};

use crate::agent::{AgentError, Connection, PATIENCE};
use crate::context::Context;
use crate::error::Error;
use crate::id::ContainerId;
use crate::signals;
use crate::state::State;

/// How long a guest may take to kill a container before it is ended itself,
/// which comes to the same.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `kill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Send it to every process of the container
    #[arg(long, short)]
    pub(crate) all: bool,
    /// The container's id
    pub(crate) id: String,
    /// The signal, by name or number
    #[arg(default_value = "TERM")]
    pub(crate) signal: String,
}

/// Sends the signal.
pub(crate) fn execute(context: &Context, args: &Args) -> Result<u8, Error> {
    let id = ContainerId::parse(&args.id)?;
    let signal = signals::parse(&args.signal)?;
    let state = context.store.state(&id)?;
    if !state.status().can_signal() {
        // Like runc: all of none is no failure, and containerd relies on it.
        if args.all {
            return Ok(0);
        }
        return Err(Error::NotRunning { verb: "kill", id });
    }
    if signal == signals::KILL {
        kill(context, &state, args.all)?;
    } else {
        send(context, &state, signal, args.all, PATIENCE)?;
    }
    Ok(0)
}

/// Kills a container, and if its guest does not answer, that.
pub(super) fn kill(context: &Context, state: &State, all: bool) -> Result<(), Error> {
    let sent = send(context, state, signals::KILL, all, KILL_PATIENCE);
    match (sent, state.vmm) {
        (Err(error), Some(vmm)) if !is_refusal(&error) => vmm
            .kill()
            .map_err(Error::io("kill the VMM of", state.id.as_str())),
        (sent, _) => sent,
    }
}

/// Whether the guest has answered, or is gone. To end the guest of a container
/// that is ending by itself would take its last output and its exit code.
pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::NotRunning { .. }
            | Error::Agent {
                source: AgentError::Remote(_),
                ..
            }
    )
}

fn send(
    context: &Context,
    state: &State,
    signal: u8,
    all: bool,
    patience: Duration,
) -> Result<(), Error> {
    let process = ProcessId {
        container: state.id.to_string(),
        exec: None,
    };
    let request = RequestBody::Signal {
        process,
        signal,
        all,
    };
    match ask(context, state, request, patience) {
        Err(error) if has_ended(state, &error) => Err(Error::NotRunning {
            verb: "kill",
            id: state.id.clone(),
        }),
        other => other,
    }
}

/// Whether a signal could not be sent because there is nobody any more.
fn has_ended(state: &State, error: &Error) -> bool {
    let is_told = matches!(
        error,
        Error::Agent { source: AgentError::Remote(error), .. } if error.kind == ErrorKind::InvalidState
    );
    is_told || state.vmm.is_some_and(|vmm| !vmm.is_alive())
}

fn ask(
    context: &Context,
    state: &State,
    request: RequestBody,
    patience: Duration,
) -> Result<(), Error> {
    let dir = context.sandbox_dir(&state.id)?;
    Connection::dial(&dir, patience)
        .and_then(|mut agent| agent.call(request, patience))
        .map_err(|source| Error::Agent {
            verb: "kill",
            id: state.id.clone(),
            source,
        })?;
    Ok(())
}
