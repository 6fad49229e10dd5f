//! `bulkhead start`: lets a created container run.

use bulkhead_protocol::{ContainerState, ErrorKind, RequestBody, Response};

use super::kill;
use crate::agent::{AgentError, Connection, PATIENCE};
use crate::context::Context;
use crate::error::Error;
use crate::hooks::{self, Hooked, Moment};
use crate::id::ContainerId;
use crate::logging;
use crate::monitor::command_exit_code;
use crate::state::{Phase, State, Status};
use crate::store::StoreError;

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container's id
    id: String,
}

/// Starts the container.
pub(crate) fn execute(context: &Context, args: &Args) -> Result<u8, Error> {
    let id = ContainerId::parse(&args.id)?;
    let state = context.store.state(&id)?;
    let status = state.status();
    if !status.can_start() {
        return Err(already(id, status));
    }
    let mut agent = Connection::dial(&context.sandbox_dir(&id)?, PATIENCE)
        .map_err(|source| failed(id.clone(), source))?;
    let request = RequestBody::Start {
        container: id.to_string(),
    };
    match agent.call(request, PATIENCE) {
        Ok(_) => {
            record(context, &state);
            run_hooks(context, state)?;
            Ok(0)
        }
        // An earlier `start` did not live to record it.
        Err(AgentError::Remote(error))
            if error.kind == ErrorKind::InvalidState && is_running(&mut agent, &id) =>
        {
            record(context, &state);
            Err(already(id, Status::Running))
        }
        Err(source) => Err(failed(id, source)),
    }
}

/// A container whose hook fails does not stay.
fn run_hooks(context: &Context, started: State) -> Result<(), Error> {
    let config: Hooked = context.store.config(&started.id)?;
    let running = State {
        phase: Phase::Running,
        ..started
    };
    let hooks = config.hooks.as_ref();
    let done = hooks::run(Moment::Poststart, hooks, &running.describe(), None);
    if done.is_err()
        && let Err(error) = kill::kill(context, &running, false)
    {
        log::warn!("{}", logging::chain(&error));
    }
    Ok(done?)
}

/// Records that the container runs. It does so whatever comes of the record,
/// and may even be over and deleted by now.
fn record(context: &Context, started: &State) {
    let run = |state: &mut State| state.advance(Phase::Running);
    match context.store.update(&started.id, started.monitor, run) {
        Ok(()) | Err(StoreError::NotFound { .. }) => {}
        Err(error) => log::warn!(
            "container {} runs, but this cannot be recorded: {}",
            started.id,
            logging::chain(&error)
        ),
    }
}

fn is_running(agent: &mut Connection, id: &ContainerId) -> bool {
    let request = RequestBody::Status {
        container: id.to_string(),
    };
    let answer = agent.call(request, PATIENCE);
    matches!(answer, Ok(Response::Status(status)) if status.state == ContainerState::Running)
}

fn already(id: ContainerId, status: Status) -> Error {
    Error::WrongStatus {
        verb: "start",
        id,
        status,
        hint: "",
    }
}

fn failed(id: ContainerId, source: AgentError) -> Error {
    match source {
        AgentError::Remote(error) if command_exit_code(&error).is_some() => {
            Error::Command { id, error }
        }
        source => Error::Agent {
            verb: "start",
            id,
            source,
        },
    }
}
