//! The record of the container that this process stands for.

use std::time::SystemTime;

use crate::bundle::Bundle;
use crate::host_cgroup::{self, Home};
use crate::id::ContainerId;
use crate::logging;
use crate::process::ProcessRef;
use crate::removal;
use crate::state::{Exit, Phase, State};
use crate::store::{Entry, Store, StoreError};

/// A container's record; unless [kept](Record::keep), it goes when this is
/// dropped, so that a start that fails leaves nothing behind.
#[derive(Debug)]
pub(super) struct Record<'a> {
    store: &'a Store,
    id: &'a ContainerId,
    monitor: ProcessRef,
    reserved: Option<Entry>,
    /// Where this process was before it entered the container's cgroup.
    home: Option<Home>,
    kept: bool,
}

impl<'a> Record<'a> {
    /// Takes the id.
    pub(super) fn reserve(
        store: &'a Store,
        id: &'a ContainerId,
        monitor: ProcessRef,
    ) -> Result<Self, StoreError> {
        let reserved = Some(store.reserve(id)?);
        Ok(Self {
            store,
            id,
            monitor,
            reserved,
            home: None,
            kept: false,
        })
    }

    /// Writes something down about the container; at first, with it, what it is
    /// made from. From then on other commands can see it.
    pub(super) fn write(
        &mut self,
        bundle: &Bundle,
        change: impl FnOnce(&mut State),
    ) -> Result<(), StoreError> {
        let Some(entry) = self.reserved.take() else {
            return self.update(change);
        };
        let annotations = bundle.spec.annotations().clone().unwrap_or_default();
        let mut state = State {
            id: self.id.clone(),
            bundle: bundle.path.clone(),
            rootfs: bundle.rootfs.clone(),
            annotations: annotations.into_iter().collect(),
            created: humantime::format_rfc3339_nanos(SystemTime::now()).to_string(),
            phase: Phase::Creating,
            paused: false,
            monitor: self.monitor,
            vmm: None,
            fsd: None,
            cgroup: None,
            exit: None,
        };
        change(&mut state);
        let written = entry
            .write_config(&bundle.spec)
            .and_then(|()| entry.write_state(&state));
        if written.is_err() {
            self.reserved = Some(entry);
        }
        written
    }

    /// What has been written down.
    pub(super) fn read(&self) -> Result<State, StoreError> {
        self.store.state(self.id)
    }

    /// Takes note that this process enters the container's cgroup, which it has
    /// to leave before that can be removed.
    pub(super) fn will_enter_cgroup(&mut self) {
        self.home = Some(Home::current());
    }

    /// Leaves the record to `delete`.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    /// Writes down that the container has got so far.
    pub(super) fn advance(&self, phase: Phase) -> Result<(), StoreError> {
        self.update(|state| state.advance(phase))
    }

    /// Writes down how the container ended.
    pub(super) fn end(&self, exit: Exit) -> Result<(), StoreError> {
        self.update(|state| {
            state.advance(Phase::Stopped);
            state.exit = Some(exit);
        })
    }

    fn update(&self, change: impl FnOnce(&mut State)) -> Result<(), StoreError> {
        self.store.update(self.id, self.monitor, change)
    }

    fn remove(&mut self) -> Result<(), StoreError> {
        if let Some(entry) = self.reserved.take() {
            return entry.remove();
        }
        if let Some(home) = &self.home
            && let Err(error) = host_cgroup::leave_for(home)
        {
            log::warn!("{}", logging::chain(&error));
        }
        let entry = match self.store.entry(self.id) {
            Err(StoreError::NotFound { .. }) => return Ok(()),
            other => other?,
        };
        match entry.state()? {
            Some(state) if state.monitor == self.monitor => removal::forget(entry, Some(&state)),
            _ => Ok(()),
        }
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.remove()
        {
            log::warn!("{}", logging::chain(&error));
        }
    }
}
