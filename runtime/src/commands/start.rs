//! `bulkhead start`: lets a created container run.

use bulkhead_protocol::RequestBody;

use crate::agent::{AgentError, Connection, PATIENCE};
use crate::context::Context;
use crate::error::Error;
use crate::id::ContainerId;
use crate::monitor::command_exit_code;
use crate::state::Phase;

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container's id
    id: String,
}

/// Starts the container.
pub(crate) fn execute(context: &Context, args: &Args) -> Result<u8, Error> {
    let id = ContainerId::parse(&args.id)?;
    let status = context.store.state(&id)?.status();
    if !status.can_start() {
        return Err(Error::WrongStatus {
            verb: "start",
            id,
            status,
            hint: "",
        });
    }
    let dir = context.sandbox_dir(&id)?;
    let request = RequestBody::Start {
        container: id.to_string(),
    };
    match Connection::dial(&dir, PATIENCE).and_then(|mut agent| agent.call(request, PATIENCE)) {
        Ok(_) => {}
        Err(AgentError::Remote(error)) if command_exit_code(&error).is_some() => {
            return Err(Error::Command { id, error });
        }
        Err(source) => {
            return Err(Error::Agent {
                verb: "start",
                id,
                source,
            });
        }
    }
    let entry = context.store.entry(&id)?;
    if let Some(mut state) = entry.state()? {
        state.advance(Phase::Running);
        entry.write_state(&state)?;
    }
    Ok(0)
}
