//! A process that the agent started, and what clients wait for about it.

use std::io::{self, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_protocol::{ContainerState, ExitStatus, ProcessId, RemoteError, StreamKind};
use nix::sys::signal::Signal;
use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Resource, prlimit};

use crate::child::{MAX_REPORT, Report};
use crate::event::Poller;
use crate::plan::ResourceLimit;
use crate::stream::{BUFFER_LEN, Stream};
use crate::sys;

/// Reports are read into the agent's buffer.
const _: () = assert!(MAX_REPORT <= BUFFER_LEN);

/// Where an answer goes: a connection and the id of a request on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReplyTo {
    pub(super) connection: u64,
    pub(super) request: u64,
}

/// Where a process is in its life. Each phase owns what exists only then.
#[derive(Debug)]
pub(super) enum Phase {
    /// It sets itself up.
    SettingUp {
        /// The channel to it.
        control: OwnedFd,
        /// Who is told when it is ready.
        ready: Option<ReplyTo>,
        /// Who is told when it executes its command. Without, it waits then.
        start: Option<ReplyTo>,
    },
    /// It waits for its start.
    Ready {
        /// The channel to it.
        control: OwnedFd,
    },
    /// It was told to execute its command.
    Starting {
        /// The channel to it, which closes when `execve` succeeds.
        control: OwnedFd,
        /// Who is told.
        started: ReplyTo,
    },
    /// It executes its command.
    Running,
    /// It failed before that, and is about to exit.
    Failing {
        /// Why.
        error: RemoteError,
        /// Who is told once it is gone.
        replies: Vec<ReplyTo>,
    },
    /// It has ended; what it wrote is still being handed over.
    Draining(ExitStatus),
    /// It is over.
    Over(ExitStatus),
}

/// A container's init process, or one that an `exec` added.
#[derive(Debug)]
pub(super) struct Process {
    /// What the event loop knows it by.
    pub(super) key: u64,
    /// What clients know it by.
    pub(super) name: ProcessId,
    /// Its id, in the agent's pid namespace.
    pub(super) pid: Pid,
    /// A handle that means it even when the id is used again.
    pub(super) pidfd: OwnedFd,
    /// The connection that it ends with; an init process has none.
    pub(super) client: Option<u64>,
    /// Set when it starts: it would be hindered while it sets itself up.
    pub(super) limits: Vec<ResourceLimit>,
    /// Likewise; a process may not lower its own.
    pub(super) oom_score_adj: Option<i16>,
    /// Its standard streams.
    pub(super) streams: Vec<Stream>,
    /// Where it is.
    pub(super) phase: Phase,
    /// Who is told when it is over.
    pub(super) waiting: Vec<ReplyTo>,
}

/// Why a process that is ready cannot execute its command.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("cannot set the limit {resource:?} of the process")]
    Limit {
        resource: Resource,
        source: io::Error,
    },
    #[error("cannot set the process's oom_score_adj to {value}")]
    OomScore { value: i16, source: io::Error },
    #[error("cannot reach the process")]
    Gone(#[source] io::Error),
}

/// What the channel to a process had to say.
#[derive(Debug)]
pub(super) enum ControlEvent {
    /// Nothing yet.
    Nothing,
    /// The process has a terminal.
    Terminal(OwnedFd),
    /// It is set up.
    Ready,
    /// It failed.
    Failed(RemoteError),
    /// The channel is closed.
    Closed,
}

impl Process {
    /// Where its container is in its life, if this is its init process.
    pub(super) fn state(&self) -> ContainerState {
        match self.phase {
            Phase::SettingUp { .. } | Phase::Ready { .. } | Phase::Starting { .. } => {
                ContainerState::Created
            }
            Phase::Running => ContainerState::Running,
            Phase::Failing { .. } | Phase::Draining(_) | Phase::Over(_) => ContainerState::Stopped,
        }
    }

    /// How it ended, if it did.
    pub(super) fn exit(&self) -> Option<ExitStatus> {
        match self.phase {
            Phase::Draining(exit) | Phase::Over(exit) => Some(exit),
            _ => None,
        }
    }

    /// Whether nothing is left to happen to it.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: u8) -> io::Result<()> {
        sys::send_signal(self.pidfd.as_fd(), signal)
    }

    /// Its terminal, if it has one.
    pub(super) fn terminal(&mut self) -> Option<&mut Stream> {
        self.streams
            .iter_mut()
            .find(|stream| stream.kind() == StreamKind::Terminal)
    }

    /// The channel to it, while there is one.
    pub(super) fn control(&self) -> Option<BorrowedFd<'_>> {
        match &self.phase {
            Phase::SettingUp { control, .. }
            | Phase::Ready { control }
            | Phase::Starting { control, .. } => Some(control.as_fd()),
            _ => None,
        }
    }

    /// Reads what it tells over its channel, by way of a buffer.
    pub(super) fn read_control(&self, buffer: &mut [u8]) -> ControlEvent {
        self.control().map_or(ControlEvent::Nothing, |control| {
            receive(control, &mut buffer[..MAX_REPORT])
        })
    }

    /// Takes note that it is ready. Returns who is told of that, and who has
    /// asked for its start.
    pub(super) fn become_ready(&mut self) -> (Option<ReplyTo>, Option<ReplyTo>) {
        match mem::replace(&mut self.phase, Phase::Running) {
            Phase::SettingUp {
                control,
                ready,
                start,
            } => {
                self.phase = Phase::Ready { control };
                (ready, start)
            }
            other => {
                self.phase = other;
                (None, None)
            }
        }
    }

    /// Tells it to execute its command.
    pub(super) fn start(&mut self, to: ReplyTo) -> Result<(), StartError> {
        for limit in &self.limits {
            set_limit(self.pid, limit).map_err(|source| StartError::Limit {
                resource: limit.resource,
                source,
            })?;
        }
        if let Some(value) = self.oom_score_adj {
            let path = format!("/proc/{}/oom_score_adj", self.pid.as_raw_pid());
            std::fs::write(path, value.to_string())
                .map_err(|source| StartError::OomScore { value, source })?;
        }
        self.go_on().map_err(StartError::Gone)?;
        self.phase = match mem::replace(&mut self.phase, Phase::Running) {
            Phase::Ready { control } => Phase::Starting {
                control,
                started: to,
            },
            other => other,
        };
        Ok(())
    }

    /// Sends it the byte that it waits for.
    pub(super) fn go_on(&self) -> io::Result<()> {
        if let Some(control) = self.control() {
            rustix::io::write(control, &[1])?;
        }
        Ok(())
    }

    /// Takes note of why it fails. Returns who is told at once: a container
    /// whose command cannot be executed exists, and has stopped.
    pub(super) fn fail(&mut self, error: RemoteError) -> Option<(ReplyTo, RemoteError)> {
        let is_init = self.name.exec.is_none();
        let (phase, answer) = match mem::replace(&mut self.phase, Phase::Running) {
            Phase::Starting { started, .. } if is_init => (Phase::Running, Some((started, error))),
            Phase::Starting { started, .. } => {
                let replies = vec![started];
                (Phase::Failing { error, replies }, None)
            }
            Phase::SettingUp { ready, start, .. } => {
                let replies = ready.into_iter().chain(start).collect();
                (Phase::Failing { error, replies }, None)
            }
            other => (other, None),
        };
        self.phase = phase;
        answer
    }

    /// Ends a process that cannot be started. Whoever asked for its start, and
    /// whoever waits for its end, is told why when it is gone.
    pub(super) fn abandon(&mut self, to: ReplyTo, error: RemoteError) {
        let replies = vec![to];
        self.phase = Phase::Failing { error, replies };
        // If this fails, it has ended already.
        let _ = self.signal(Signal::SIGKILL as u8);
    }

    /// Takes note that its channel is closed. Returns who is told that it
    /// executes its command, if that is what it means.
    pub(super) fn control_closed(&mut self) -> Option<ReplyTo> {
        match mem::replace(&mut self.phase, Phase::Running) {
            Phase::Starting { started, .. } => Some(started),
            // Killed before its start.
            Phase::Ready { .. } => None,
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Takes note that it has ended.
    pub(super) fn ended(&mut self, exit: ExitStatus) {
        self.phase = Phase::Draining(exit);
        for stream in &mut self.streams {
            stream.process_ended();
        }
    }

    /// Moves what its streams hold. Returns whether all its output has been
    /// handed over.
    pub(super) fn advance_streams(&mut self, poller: &Poller, buffer: &mut [u8]) -> bool {
        self.streams
            .retain_mut(|stream| match stream.advance(poller, buffer) {
                Ok(()) => !stream.is_over(),
                // Nothing more can be done for a stream that cannot be watched.
                Err(_) => false,
            });
        self.streams.is_empty()
    }

    /// Forgets that a client waits for something. If the process was the
    /// client's, it is killed: whoever kills a process of the host that stands
    /// for one of the guest's means that.
    pub(super) fn forget_client(&mut self, connection: u64) {
        self.waiting.retain(|to| to.connection != connection);
        if self.client == Some(connection) && self.exit().is_none() {
            // Fails only if it has ended in the meantime.
            let _ = self.signal(Signal::SIGKILL as u8);
        }
    }
}

/// Most descriptors that a process may be allowed to have.
const NR_OPEN: &str = "/proc/sys/fs/nr_open";

fn set_limit(pid: Pid, limit: &ResourceLimit) -> io::Result<()> {
    let ResourceLimit { resource, limit } = limit;
    let set = || prlimit(Some(pid), *resource, *limit);
    match (set(), limit.maximum) {
        // More than the guest's kernel allows by default. The host's may allow
        // more, and a configuration is made for that.
        (Err(Errno::PERM), Some(maximum)) if *resource == Resource::Nofile => {
            std::fs::write(NR_OPEN, maximum.to_string())?;
            Ok(set().map(drop)?)
        }
        (result, _) => Ok(result.map(drop)?),
    }
}

fn receive(control: BorrowedFd<'_>, text: &mut [u8]) -> ControlEvent {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let n = match recvmsg(control, &mut [IoSliceMut::new(text)], &mut ancillary, flags) {
        Ok(message) => message.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return ControlEvent::Nothing,
        Err(_) => 0,
    };
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    match (serde_json::from_slice(&text[..n]), descriptor) {
        (Ok(Report::Ready), _) => ControlEvent::Ready,
        (Ok(Report::Failed(error)), _) => ControlEvent::Failed(error),
        (Ok(Report::Terminal), Some(master)) => ControlEvent::Terminal(master),
        _ => ControlEvent::Closed,
    }
}
