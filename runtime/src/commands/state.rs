//! `bulkhead state`: what is known of a container.

use crate::context::Context;
use crate::error::Error;
use crate::id::ContainerId;

/// Arguments of `state`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container's id
    id: String,
}

/// Prints the container's state as JSON.
pub(crate) fn execute(context: &Context, args: &Args) -> Result<u8, Error> {
    let state = context.store.state(&ContainerId::parse(&args.id)?)?;
    super::print(&super::to_json(&state.describe())?)
}
