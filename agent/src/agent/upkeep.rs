//! Requests about a container as a whole, while it lives.

use bulkhead_protocol::{Json, Response};

use super::Agent;
use super::container::Freezing;
use super::process::ReplyTo;
use super::request_error::{RequestError, Result};
use crate::config::Resources;
use crate::{plan, processes};

impl Agent {
    /// Answered when the processes stand still, or go on. Who asked for something
    /// else before is answered now: it will not come to be.
    pub(super) fn freeze(
        &mut self,
        to: ReplyTo,
        id: &str,
        frozen: bool,
    ) -> Result<Option<Response>> {
        let container = self.table.container_mut(id);
        let container = container.ok_or_else(|| RequestError::NoContainer(id.to_owned()))?;
        container.cgroup.watch(&self.poller)?;
        container.cgroup.freeze(frozen)?;
        let overtaken = container.freezing.replace(Freezing { to, frozen });
        if let Some(Freezing { to, .. }) = overtaken {
            let container = id.to_owned();
            let state = if frozen {
                "being frozen"
            } else {
                "being thawed"
            };
            self.reply(to, Err(RequestError::State { container, state }.into()));
        }
        self.finish_freezes();
        Ok(None)
    }

    /// Answers those whose containers have come to stand still, or to go on.
    pub(super) fn finish_freezes(&mut self) {
        let is_so = |freezing: &mut Freezing, now: bool| freezing.frozen == now;
        let done: Vec<_> = self
            .table
            .containers_mut()
            .filter(|container| container.freezing.is_some())
            .filter_map(|container| {
                let now = container.cgroup.is_frozen();
                container.freezing.take_if(|freezing| is_so(freezing, now))
            })
            .collect();
        for freezing in done {
            self.reply(freezing.to, Ok(Response::Done));
        }
    }

    pub(super) fn limit(&mut self, id: &str, resources: &Json) -> Result<Option<Response>> {
        let resources: Resources = resources.parse()?;
        let limits = plan::limits(&resources)?;
        self.container_mut(id)?.cgroup.limit(&limits)?;
        Ok(Some(Response::Done))
    }

    pub(super) fn usage(&mut self, id: &str) -> Result<Option<Response>> {
        let usage = self.container_mut(id)?.cgroup.usage();
        Ok(Some(Response::Usage(Box::new(usage))))
    }

    pub(super) fn processes(&mut self, id: &str) -> Result<Option<Response>> {
        let pids = self.container_mut(id)?.cgroup.processes();
        Ok(Some(Response::Processes(processes::describe(pids))))
    }
}
