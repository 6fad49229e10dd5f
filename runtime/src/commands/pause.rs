//! `bulkhead pause` and `resume`: stop a container's processes, and let them go
//! on. Its microVM runs on: its guest answers, and its streams are relayed.

use bulkhead_protocol::RequestBody;

use crate::context::Context;
use crate::error::Error;
use crate::id::ContainerId;
use crate::state::{State, Status};

/// Arguments of `pause` and `resume`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container's id
    id: String,
}

/// Stops the processes.
pub(crate) fn pause(context: &Context, args: &Args) -> Result<u8, Error> {
    let is_possible = |status| matches!(status, Status::Created | Status::Running);
    freeze(context, args, "pause", true, is_possible)
}

/// Lets them go on.
pub(crate) fn resume(context: &Context, args: &Args) -> Result<u8, Error> {
    freeze(context, args, "resume", false, |status| {
        status == Status::Paused
    })
}

fn freeze(
    context: &Context,
    args: &Args,
    verb: &'static str,
    frozen: bool,
    is_possible: fn(Status) -> bool,
) -> Result<u8, Error> {
    let id = ContainerId::parse(&args.id)?;
    let state = context.store.state(&id)?;
    let status = state.status();
    if !is_possible(status) {
        return Err(Error::WrongStatus {
            verb,
            id,
            status,
            hint: "",
        });
    }
    let container = id.to_string();
    let request = RequestBody::Freeze { container, frozen };
    super::ask(context, &state, verb, request)?;
    let record = |state: &mut State| state.paused = frozen;
    context.store.update(&id, state.monitor, record)?;
    Ok(0)
}
