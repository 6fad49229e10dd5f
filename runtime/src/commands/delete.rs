//! `bulkhead delete`: removes a container.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::kill;
use crate::context::Context;
use crate::error::Error;
use crate::events::wait_readable;
use crate::id::ContainerId;
use crate::process::ProcessRef;
use crate::removal;
use crate::sandbox;
use crate::state::{State, Status};
use crate::store::StoreError;

/// How long a monitor gets to put its affairs in order.
const GRACE: Duration = Duration::from_secs(10);

/// Arguments of `delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kill it first if it runs; a container that does not exist is no error
    #[arg(long, short)]
    pub(crate) force: bool,
    /// The container's id
    pub(crate) id: String,
}

/// Removes the container.
pub(crate) fn execute(context: &Context, args: &Args) -> Result<u8, Error> {
    let id = ContainerId::parse(&args.id)?;
    match remove(context, &id, args.force) {
        Err(Error::Store(StoreError::NotFound { .. })) if args.force => Ok(0),
        other => other.map(|()| 0),
    }
}

fn remove(context: &Context, id: &ContainerId, force: bool) -> Result<(), Error> {
    let state = match context.store.entry(id)?.state() {
        Ok(state) => state,
        Err(StoreError::Damaged { .. }) if force => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(state) = &state {
        let status = state.status();
        if !force && !status.can_delete() {
            let hint = "; stop it first, or use --force";
            return Err(Error::WrongStatus {
                verb: "delete",
                id: id.clone(),
                status,
                hint,
            });
        }
        // Not while we hold the record: the monitor writes to it.
        end(context, state, status)?;
    }
    // A monitor in the foreground removes the record itself.
    let entry = context.store.entry(id)?;
    sandbox::remove(&context.store.sandbox_dir(id))?;
    Ok(removal::forget(entry, state.as_ref())?)
}

/// Ends what is left of the container; its monitor does most of it.
fn end(context: &Context, state: &State, status: Status) -> Result<(), Error> {
    if status.can_signal() {
        match kill::kill(context, state, false) {
            // On its way to its end already, or it never came to be: its
            // monitor gets its grace all the same.
            Err(error) if kill::is_refusal(&error) => {}
            other => other?,
        }
    }
    end_processes(state).map_err(Error::io("end the processes of", state.id.as_str()))
}

/// Ends the processes. Those of the sandbox end with their monitor, unless
/// they hang.
fn end_processes(state: &State) -> io::Result<()> {
    let has_ended = ends_within_grace(state.monitor)?;
    for process in [state.vmm, state.fsd].into_iter().flatten() {
        process.kill()?;
        ends_within_grace(process)?;
    }
    if !has_ended {
        state.monitor.kill()?;
        ends_within_grace(state.monitor)?;
    }
    Ok(())
}

fn ends_within_grace(process: ProcessRef) -> io::Result<bool> {
    let handle = process.open()?;
    Ok(handle.is_none_or(|handle| wait_readable(handle.as_fd(), GRACE)))
}
