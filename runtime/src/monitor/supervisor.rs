//! Watches over a sandbox and the container in it.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bulkhead_protocol::{ExitStatus, Network, ProcessId, RequestBody};

use super::{MonitorError, Until};
use crate::agent::{AgentError, Connection};
use crate::attached::{Attached, LAST_OUTPUT_GRACE, Progress, Screen, Source};
use crate::events::Waiter;
use crate::sandbox::{Demise, Sandbox};
use crate::signals::{self, Signals};
use crate::stdio::Streams;
use crate::timeline::Timeline;

/// What the agent is to be asked for once it is up.
#[derive(Debug)]
pub(super) struct Goal {
    pub(super) process: ProcessId,
    /// What the guest's network is to be, if it has one.
    pub(super) network: Option<Box<Network>>,
    pub(super) request: RequestBody,
    pub(super) streams: Streams,
    pub(super) screen: Screen,
    pub(super) until: Until,
}

/// A sandbox under watch.
#[derive(Debug)]
pub(super) struct Supervisor {
    sandbox: Sandbox,
    signals: Signals,
    timeline: Timeline,
}

impl Supervisor {
    pub(super) fn new(sandbox: Sandbox, signals: Signals, timeline: Timeline) -> Self {
        Self {
            sandbox,
            signals,
            timeline,
        }
    }

    /// What is known of where the start's time went.
    pub(super) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Sees the guest up and the container to its goal.
    pub(super) fn start(
        &mut self,
        goal: Goal,
        timeout: Duration,
    ) -> Result<Attached, MonitorError> {
        // A timeout beyond what the clock can tell is none.
        let deadline = Instant::now().checked_add(timeout);
        let reached = match goal.until {
            Until::Created => |progress: &Progress| matches!(progress, Progress::Created),
            Until::Started => |progress: &Progress| matches!(progress, Progress::Started { .. }),
        };
        let timed_out = |this: &Self| MonitorError::Timeout {
            seconds: timeout.as_secs_f64(),
            console: this.sandbox.console(),
        };
        let Some(agent) = self.wait_for_agent(deadline)? else {
            return Err(timed_out(self));
        };
        let mut attached = Attached::new(goal.process, agent, goal.streams, goal.screen);
        attached
            .create(goal.network, goal.request, goal.until == Until::Started)
            .map_err(|e| self.agent_failed(e, MonitorError::NotStarted))?;
        // Once the container is there its command may run before that is told, and
        // be heard: a signal is for the command from then on.
        let mut created = false;
        let mut held = Vec::new();
        loop {
            let mut done = false;
            for source in self.wait(Some(&attached), deadline)? {
                if created && source == Source::Signals {
                    self.hold_signals(&mut held)?;
                    continue;
                }
                for progress in self.advance_start(&mut attached, source)? {
                    created |= matches!(progress, Progress::Created);
                    done |= reached(&progress);
                }
            }
            if done {
                for signal in held {
                    self.pass_on(&mut attached, signal)?;
                }
                return Ok(attached);
            }
            if has_passed(deadline) {
                return Err(timed_out(self));
            }
        }
    }

    /// Waits until the agent calls; `None` if that takes too long.
    fn wait_for_agent(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<Connection>, MonitorError> {
        loop {
            for source in self.wait(None, deadline)? {
                match source {
                    Source::Owner => {
                        let agent = self.sandbox.accept_agent().and_then(Connection::new);
                        return agent
                            .map(Some)
                            .map_err(MonitorError::io("accept the agent"));
                    }
                    Source::Signals => self.interrupt()?,
                    _ => self.check(MonitorError::NotStarted)?,
                }
            }
            if has_passed(deadline) {
                return Ok(None);
            }
        }
    }

    fn advance_start(
        &mut self,
        attached: &mut Attached,
        source: Source,
    ) -> Result<Vec<Progress>, MonitorError> {
        match source {
            Source::Signals => self.interrupt()?,
            Source::Agent => {
                let progress = attached.progress(self.sandbox.dir());
                let progress =
                    progress.map_err(|e| self.agent_failed(e, MonitorError::NotStarted))?;
                for step in &progress {
                    self.note(step)?;
                }
                return Ok(progress);
            }
            Source::Streams => self.accept_stream(attached)?,
            _ => self.check(MonitorError::NotStarted)?,
        }
        Ok(Vec::new())
    }

    fn note(&mut self, progress: &Progress) -> Result<(), MonitorError> {
        match progress {
            Progress::Greeted(hello) => self.timeline.note_agent(hello.stamps),
            Progress::Started { exec_tsc } => self.timeline.note_exec(*exec_tsc),
            Progress::Refused(error) => {
                return Err(MonitorError::Refused {
                    error: error.clone(),
                });
            }
            Progress::Created | Progress::Exited(_) => {}
        }
        Ok(())
    }

    /// Sees the container to its end, and its output to ours.
    pub(super) fn follow(&mut self, mut attached: Attached) -> Result<ExitStatus, MonitorError> {
        let outcome = self.until_over(&mut attached);
        match outcome {
            // Who asked for the end does not wait for more.
            Ok(_) | Err(MonitorError::Undrained { .. }) => {}
            Err(_) => {
                self.sandbox.end_processes();
                attached.drain_within(LAST_OUTPUT_GRACE, self.sandbox.dir());
            }
        }
        outcome
    }

    fn until_over(&mut self, attached: &mut Attached) -> Result<ExitStatus, MonitorError> {
        attached
            .catch_up_with_size()
            .map_err(|e| self.agent_failed(e, MonitorError::Lost))?;
        loop {
            match attached.exit() {
                Some(status) if attached.is_drained() => return Ok(status),
                Some(_) => self.drain(attached)?,
                None => self.advance(attached)?,
            }
        }
    }

    fn advance(&mut self, attached: &mut Attached) -> Result<(), MonitorError> {
        for source in self.wait(Some(attached), None)? {
            match source {
                Source::Signals => self.forward(attached)?,
                Source::Agent => {
                    let progress = attached.progress(self.sandbox.dir());
                    progress.map_err(|e| self.agent_failed(e, MonitorError::Lost))?;
                }
                Source::Streams => self.accept_stream(attached)?,
                // What comes with the container's end does not undo it.
                _ if attached.exit().is_some() => {}
                _ => self.check(MonitorError::Lost)?,
            }
        }
        Ok(())
    }

    /// Waits for the last output. Whether the sandbox still stands does not
    /// matter any more: if not, its streams end.
    fn drain(&mut self, attached: &Attached) -> Result<(), MonitorError> {
        let mut waiter = Waiter::new();
        waiter.readable(Source::Signals, self.signals.as_fd());
        attached.register(&mut waiter);
        let ready = waiter.wait(None).map_err(MonitorError::io("wait"))?;
        if ready.contains(&Source::Signals) {
            self.stop_draining()
        } else {
            Ok(())
        }
    }

    /// Ends the sandbox.
    pub(super) fn tear_down(self) -> Result<(), MonitorError> {
        Ok(self.sandbox.tear_down()?)
    }

    fn wait(
        &self,
        attached: Option<&Attached>,
        deadline: Option<Instant>,
    ) -> Result<Vec<Source>, MonitorError> {
        let mut waiter = Waiter::new();
        match attached {
            // First, so that what the agent told counts before its guest's end.
            Some(attached) => attached.register(&mut waiter),
            None => {
                if let Some(owner) = self.sandbox.owner() {
                    waiter.readable(Source::Owner, owner);
                }
            }
        }
        waiter.readable(Source::Signals, self.signals.as_fd());
        waiter.readable(Source::Control, self.sandbox.control());
        waiter.readable(Source::FileServer, self.sandbox.file_server().as_fd());
        waiter.wait(deadline).map_err(MonitorError::io("wait"))
    }

    /// Takes in news of the sandbox's processes; an error if one is gone.
    fn check(&mut self, lost: fn(Demise) -> MonitorError) -> Result<(), MonitorError> {
        for event in self.sandbox.receive() {
            self.timeline.note(&event);
        }
        match self.sandbox.demise() {
            Some(demise) => Err(lost(demise)),
            None => Ok(()),
        }
    }

    /// An agent that is gone went with its guest, as a rule.
    fn agent_failed(
        &mut self,
        source: AgentError,
        lost: fn(Demise) -> MonitorError,
    ) -> MonitorError {
        match self.sandbox.demise_within_grace() {
            Some(demise) => lost(demise),
            None => MonitorError::Agent {
                source,
                console: self.sandbox.console(),
            },
        }
    }

    fn accept_stream(&mut self, attached: &mut Attached) -> Result<(), MonitorError> {
        attached
            .accept_stream(self.sandbox.dir())
            .map_err(MonitorError::io("accept a stream of the container's"))
    }

    /// A signal before the container runs: those that ask for an end get it.
    fn interrupt(&mut self) -> Result<(), MonitorError> {
        while let Some(signal) = self.next_signal()? {
            if signals::asks_for_end(signal) {
                return Err(MonitorError::Interrupted { signal });
            }
        }
        Ok(())
    }

    fn forward(&mut self, attached: &mut Attached) -> Result<(), MonitorError> {
        while let Some(signal) = self.next_signal()? {
            self.pass_on(attached, signal)?;
        }
        Ok(())
    }

    fn pass_on(&mut self, attached: &mut Attached, signal: u8) -> Result<(), MonitorError> {
        let sent = attached.signal(signal);
        sent.map_err(|e| self.agent_failed(e, MonitorError::Lost))
    }

    fn hold_signals(&self, held: &mut Vec<u8>) -> Result<(), MonitorError> {
        while let Some(signal) = self.next_signal()? {
            held.push(signal);
        }
        Ok(())
    }

    fn stop_draining(&mut self) -> Result<(), MonitorError> {
        while let Some(signal) = self.next_signal()? {
            if signals::asks_for_end(signal) {
                return Err(MonitorError::Undrained { signal });
            }
        }
        Ok(())
    }

    fn next_signal(&self) -> Result<Option<u8>, MonitorError> {
        self.signals
            .next()
            .map_err(MonitorError::io("read a signal"))
    }
}

/// Looked at whatever else there is to do: a guest that has something to say
/// all the time gets no more of it than one that says nothing.
fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|at| Instant::now() >= at)
}
