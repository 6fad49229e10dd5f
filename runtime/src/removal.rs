//! The end of what a container had on the host beside its processes: its cgroup
//! and its record. The `poststop` hooks have the last word.

use crate::hooks::{self, Hooked, Moment};
use crate::logging;
use crate::state::{Phase, State};
use crate::store::{Entry, StoreError};

/// Forgets a container whose processes are gone. What fails beside the record
/// does not bring the container back, and is for the log.
pub(crate) fn forget(entry: Entry, state: Option<&State>) -> Result<(), StoreError> {
    let Some(state) = state else {
        return entry.remove();
    };
    if let Some(cgroup) = &state.cgroup
        && let Err(error) = cgroup.remove()
    {
        log::warn!("{}", logging::chain(&error));
    }
    let config = entry.config::<Hooked>();
    entry.remove()?;
    let stopped = State {
        phase: Phase::Stopped,
        ..state.clone()
    };
    match config {
        Ok(config) => {
            let hooks = config.and_then(|config| config.hooks);
            hooks::run_all(Moment::Poststop, hooks.as_ref(), &stopped.describe());
        }
        Err(error) => log::warn!("{}", logging::chain(&error)),
    }
    Ok(())
}
