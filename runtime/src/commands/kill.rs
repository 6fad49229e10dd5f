//! `bulkhead kill`: sends a signal to a container.

use bulkhead_protocol::{ProcessId, RequestBody};

use crate::agent::Connection;
use crate::context::Context;
use crate::error::Error;
use crate::id::ContainerId;
use crate::signals;
use crate::state::State;

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
    match send(context, &id, signal, args.all) {
        Ok(()) => Ok(0),
        // A guest that does not answer can still be ended.
        Err(_) if signal == signals::KILL && kill_sandbox(&state) => Ok(0),
        Err(error) => Err(error),
    }
}

fn send(context: &Context, id: &ContainerId, signal: u8, all: bool) -> Result<(), Error> {
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
    match Connection::dial(&dir).and_then(|mut agent| agent.call(request)) {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Agent {
            verb: "kill",
            id: id.clone(),
            source,
        }),
    }
}

/// Ends the container's microVM; its monitor does the rest.
fn kill_sandbox(state: &State) -> bool {
    state.vmm.is_some_and(|vmm| vmm.kill().is_ok())
}
