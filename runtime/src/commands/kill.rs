//! `bulkhead kill`: sends a signal to a container.

use std::time::Duration;

use bulkhead_protocol::{ProcessId, RequestBody};

use crate::agent::{Connection, PATIENCE};
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
    let status = state.status();
    if !status.can_signal() {
        return Err(Error::WrongStatus {
            verb: "kill",
            id,
            status,
            hint: "",
        });
    }
    if signal == signals::KILL {
        return kill(context, &state, args.all).map(|()| 0);
    }
    send(context, &id, signal, args.all, PATIENCE).map(|()| 0)
}

/// Kills a container, and if its guest does not answer, that.
pub(super) fn kill(context: &Context, state: &State, all: bool) -> Result<(), Error> {
    let sent = send(context, &state.id, signals::KILL, all, KILL_PATIENCE);
    match (sent, state.vmm) {
        (Err(_), Some(vmm)) => vmm
            .kill()
            .map_err(Error::io("kill the VMM of", state.id.as_str())),
        (sent, _) => sent,
    }
}

fn send(
    context: &Context,
    id: &ContainerId,
    signal: u8,
    all: bool,
    patience: Duration,
) -> Result<(), Error> {
    let dir = context.sandbox_dir(id)?;
    let process = ProcessId {
        container: id.to_string(),
        exec: None,
    };
    let request = RequestBody::Signal {
        process,
        signal,
        all,
    };
    let sent = Connection::dial(&dir, patience).and_then(|mut agent| agent.call(request, patience));
    match sent {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Agent {
            verb: "kill",
            id: id.clone(),
            source,
        }),
    }
}
