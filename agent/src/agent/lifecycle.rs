//! What happens to processes: they become ready, execute their commands, end,
//! and are reaped; and what is done and answered then.

use bulkhead_protocol::{ErrorKind, ExitStatus, ProcessId, RemoteError, Response};
use rustix::process::{WaitOptions, WaitStatus, wait};

use super::Agent;
use super::process::{ControlEvent, Phase, Process, ReplyTo};
use crate::cgroup::{Cgroup, CgroupError};
use crate::error::remote;
use crate::event::{Poller, StreamIndex};
use crate::network;
use crate::sys;

impl Agent {
    /// A process that sets itself up has something to say. Returns false if it
    /// had nothing to say after all.
    pub(super) fn control_event(&mut self, key: u64) -> bool {
        let Some(process) = self.table.by_key(key) else {
            return false;
        };
        match process.read_control(&mut self.buffer) {
            ControlEvent::Nothing => return false,
            ControlEvent::Terminal(master) => {
                if let Some(stream) = process.terminal() {
                    stream.set_terminal(master);
                }
                self.advance_streams(key);
            }
            ControlEvent::Ready => self.ready(key),
            ControlEvent::Failed(error) => {
                if let Some((to, error)) = process.fail(error) {
                    self.reply(to, Err(error));
                }
            }
            ControlEvent::Closed => self.control_closed(key),
        }
        true
    }

    fn ready(&mut self, key: u64) {
        let Some(process) = self.table.by_key(key) else {
            return;
        };
        let pid = process.pid.as_raw_pid() as u32;
        let (ready, start) = process.become_ready();
        if let Some(to) = ready {
            self.reply(to, Ok(Response::Created { pid }));
        }
        if let Some(to) = start {
            self.start_process(key, to);
        }
    }

    /// Lets a process that is ready execute its command.
    pub(super) fn start_process(&mut self, key: u64, to: ReplyTo) {
        let Some(process) = self.table.by_key(key) else {
            return;
        };
        let Err(error) = process.start(to) else {
            return;
        };
        let error = remote(ErrorKind::Internal, &error);
        if process.name.exec.is_some() {
            // Nobody knows of it yet who could start it again, or delete it.
            process.abandon(to, error);
        } else {
            self.reply(to, Err(error));
        }
    }

    fn control_closed(&mut self, key: u64) {
        let Some(process) = self.table.by_key(key) else {
            return;
        };
        let pid = process.pid.as_raw_pid() as u32;
        if let Phase::SettingUp { .. } = process.phase {
            let kind = ErrorKind::Internal;
            let message = "the process ended while it was being set up".into();
            process.fail(RemoteError { kind, message });
        } else if let Some(to) = process.control_closed() {
            let exec_tsc = sys::read_tsc();
            self.reply(to, Ok(Response::Started { pid, exec_tsc }));
        }
    }

    /// Something happened to one of a process's streams.
    pub(super) fn stream_event(&mut self, key: u64, index: StreamIndex, at_socket: bool) {
        let Some(process) = self.table.by_key(key) else {
            return;
        };
        if at_socket && let Some(stream) = process.streams.iter_mut().find(|s| s.index() == index) {
            stream.socket_event();
        }
        self.advance_streams(key);
    }

    /// Moves what a process's streams hold, and goes on when its output has
    /// been handed over and it has ended.
    pub(super) fn advance_streams(&mut self, key: u64) {
        let Some(process) = self.table.by_key(key) else {
            return;
        };
        if process.advance_streams(&self.poller, &mut self.buffer) {
            self.over(key);
        }
    }

    /// Reaps all children that have ended.
    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(key) = self.table.reaped(pid) {
                self.ended(key, exit_status(status));
            }
        }
    }

    /// Removes the cgroups that wait for it and have no processes any more.
    pub(super) fn remove_cgroups(&mut self) {
        self.finish_deletes();
        self.discarded
            .retain_mut(|cgroup| matches!(is_removed(cgroup, &self.poller), Ok(false)));
    }

    fn ended(&mut self, key: u64, exit: ExitStatus) {
        // Its last words may not have been read yet.
        while self.control_event(key) {}
        let Some(process) = self.table.by_key(key) else {
            return;
        };
        if let Phase::Failing { error, replies } = &mut process.phase {
            let error = error.clone();
            let replies = std::mem::take(replies);
            let waiting = std::mem::take(&mut process.waiting);
            let name = process.name.clone();
            self.forget(&name);
            for to in replies.into_iter().chain(waiting) {
                self.reply(to, Err(error.clone()));
            }
            return;
        }
        process.ended(exit);
        let name = process.name.clone();
        if name.exec.is_none()
            && let Some(container) = self.table.container(&name.container)
        {
            // Without a pid namespace the kernel does not end the others.
            let _ = container.cgroup.kill();
        }
        self.advance_streams(key);
    }

    /// Forgets a process that never executed its command, and its container if
    /// it was to be the first.
    fn forget(&mut self, name: &ProcessId) {
        if name.exec.is_some() {
            self.table.remove_exec(name);
        } else if let Some(container) = self.table.remove_container(&name.container) {
            self.discard(container.cgroup);
            for to in container.deleting {
                self.reply(to, Ok(Response::Done));
            }
        }
    }

    /// Removes a cgroup, now or when its processes are gone.
    pub(super) fn discard(&mut self, mut cgroup: Cgroup) {
        let _ = cgroup.kill();
        if let Ok(false) = is_removed(&mut cgroup, &self.poller) {
            self.discarded.push(cgroup);
        }
    }

    /// All that a process wrote has been handed over: tells of its end, if it
    /// has ended. What it wrote to shared files is with the host already: the
    /// guest caches no writes to them, and what was written by mapping went
    /// out with the mapping.
    fn over(&mut self, key: u64) {
        let Some(process) = self.table.by_key(key) else {
            return;
        };
        let Phase::Draining(exit) = process.phase else {
            return;
        };
        process.phase = Phase::Over(exit);
        let waiting = std::mem::take(&mut process.waiting);
        let name = process.name.clone();
        if self.has_network && name.exec.is_none() {
            network::settle();
        }
        if !waiting.is_empty() {
            self.table.remove_exec(&name);
        }
        for to in waiting {
            self.reply(to, Ok(Response::Exited(exit)));
        }
        self.finish_deletes();
    }

    /// Deletes the containers that wait for it and have come to their end.
    pub(super) fn finish_deletes(&mut self) {
        let over: Vec<_> = self
            .table
            .containers_mut()
            .filter(|container| {
                !container.deleting.is_empty() && container.processes().all(Process::is_over)
            })
            .map(|container| container.init.name.container.clone())
            .collect();
        for id in over {
            self.finish_delete(&id);
        }
    }

    fn finish_delete(&mut self, id: &str) {
        let Some(container) = self.table.container_mut(id) else {
            return;
        };
        let result = match is_removed(&mut container.cgroup, &self.poller) {
            Ok(true) => Ok(Response::Done),
            // Processes that others started have been killed, and are on their way out.
            Ok(false) => return,
            Err(error) => Err(remote(ErrorKind::Internal, &error)),
        };
        let replies = std::mem::take(&mut container.deleting);
        if result.is_ok() {
            self.table.remove_container(id);
        }
        for to in replies {
            self.reply(to, result.clone());
        }
    }
}

/// Removes a cgroup if there are no processes in it. Otherwise the event loop
/// will be told when there are none: they need not be the agent's children.
fn is_removed(cgroup: &mut Cgroup, poller: &Poller) -> Result<bool, CgroupError> {
    if cgroup.remove()? {
        return Ok(true);
    }
    cgroup.watch(poller)?;
    // The last one may have ended before that.
    cgroup.remove()
}

fn exit_status(status: WaitStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(code as u8),
        (None, signal) => ExitStatus::Signal(signal.unwrap_or_default() as u8),
    }
}
