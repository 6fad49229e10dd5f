//! Further processes in a running container.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Instant;

use bulkhead_protocol::{ExecProcess, ExitStatus, Json, ProcessId, RemoteError, RequestBody};
use oci_spec::runtime::{Process, Spec};

use crate::agent::{self, AgentError, Connection};
use crate::attached::{Attached, LAST_OUTPUT_GRACE, Progress, Screen, Source};
use crate::clock::Moment;
use crate::events::Waiter;
use crate::id::ContainerId;
use crate::monitor::{Terminal, command_exit_code, explain};
use crate::sandbox::{SandboxDir, SandboxError};
use crate::seccomp::{self, ProfileError};
use crate::signals::{self, Signals};
use crate::stdio::console::{Console, ConsoleError};
use crate::stdio::{Local, Streams, terminal};

/// Why a further process could not be run, or was lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// The sandbox's directory is not there.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The seccomp profile cannot be used.
    #[error(transparent)]
    Seccomp(#[from] ProfileError),
    /// The terminal could not be set up.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// There is nobody to give a terminal to.
    #[error("a terminal in the background takes --console-socket")]
    NoConsole,
    /// The agent refused.
    #[error("cannot start the process: {}", explain(error))]
    Refused {
        /// Its reason.
        error: RemoteError,
    },
    /// The container went, or its agent does not do what it should.
    #[error("cannot follow the process in container {id}")]
    Agent {
        /// The container.
        id: ContainerId,
        /// How it failed.
        source: AgentError,
    },
    /// The guest ended while the process ran.
    #[error("container {id} was lost")]
    Lost {
        /// The container.
        id: ContainerId,
        /// How that showed.
        source: AgentError,
    },
    /// A signal came before the process ran.
    #[error("the start of the process was ended by signal {signal}")]
    Interrupted {
        /// The signal's number.
        signal: u8,
    },
    /// A signal ended the wait for output.
    #[error("signal {signal} ended the wait for the process's last output")]
    Undrained {
        /// The signal's number.
        signal: u8,
    },
    /// A system call failed that should not.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// How it failed.
        source: io::Error,
    },
}

impl ExecError {
    /// For `map_err`.
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    /// The exit code that tells of this error, if it is a particular one.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        match self {
            Self::Refused { error } => command_exit_code(error),
            Self::Interrupted { signal } | Self::Undrained { signal } => Some(128 + signal),
            // As if the process had been killed, which is what has happened.
            Self::Lost { .. } => Some(128 + signals::KILL),
            _ => None,
        }
    }
}

/// A process to run.
#[derive(Debug)]
pub(crate) struct Exec<'a> {
    /// The container.
    pub(crate) id: &'a ContainerId,
    /// What to run.
    pub(crate) process: Process,
    /// The container's configuration.
    pub(crate) config: &'a Spec,
    /// Whose terminal it gets, should it want one.
    pub(crate) terminal: Terminal,
    /// See [`ExecProcess::cgroup`].
    pub(crate) cgroup: Option<PathBuf>,
}

impl Exec<'_> {
    /// Runs the process to its end, and returns its exit code. `ready` is
    /// called when its command runs.
    pub(crate) fn run(
        self,
        dir: &SandboxDir,
        ready: impl FnOnce() -> Result<(), ExecError>,
    ) -> Result<u8, ExecError> {
        let failed = |source| ExecError::Agent {
            id: self.id.clone(),
            source,
        };
        let connection = Connection::dial(dir, agent::PATIENCE).map_err(failed)?;
        // Not before: until then a signal just ends us.
        let signals = Signals::catch().map_err(ExecError::io("catch signals"))?;
        let (local, screen) = self.open_stdio()?;
        let streams = Streams::listen(dir, local).map_err(ExecError::io("listen for streams"))?;
        let (process, request) = self.request(&streams)?;
        let mut attached = Attached::new(process, connection, streams, screen);
        attached.exec(request).map_err(failed)?;

        let mut session = Session {
            id: self.id,
            dir,
            signals,
            attached,
        };
        session.until_started()?;
        ready()?;
        let terminal = ExecError::io("set up the terminal");
        session.attached.enter_raw_mode().map_err(terminal)?;
        session.follow().map(ExitStatus::code)
    }

    fn request(&self, streams: &Streams) -> Result<(ProcessId, RequestBody), ExecError> {
        let linux = self.config.linux().as_ref();
        let profile = linux.and_then(|linux| linux.seccomp().as_ref());
        let process = ProcessId {
            container: self.id.to_string(),
            // No two processes have both in common.
            exec: Some(format!("{}-{}", std::process::id(), Moment::now().0)),
        };
        let spec = Json::new(&self.process)
            .map_err(|error| ExecError::io("encode the process")(error.into()))?;
        let request = ExecProcess {
            process: process.clone(),
            spec,
            seccomp_filter: profile.map(seccomp::compile).transpose()?,
            stdio: streams.request(),
            cgroup: self.cgroup.clone(),
        };
        Ok((process, RequestBody::Exec(Box::new(request))))
    }

    fn open_stdio(&self) -> Result<(Local, Screen), ExecError> {
        let failed = || ExecError::io("set up the standard streams");
        if !self.process.terminal().unwrap_or(false) {
            return Ok((Local::inherited().map_err(failed())?, Screen::None));
        }
        match &self.terminal {
            Terminal::None => Err(ExecError::NoConsole),
            Terminal::Inherited => Ok((
                terminal::inherited(None).map_err(failed())?,
                Screen::Inherited(None),
            )),
            Terminal::Socket(socket) => {
                let console = Console::send_to(socket, None)?;
                Ok((console.local().map_err(failed())?, Screen::Console(console)))
            }
        }
    }
}

struct Session<'a> {
    id: &'a ContainerId,
    dir: &'a SandboxDir,
    signals: Signals,
    attached: Attached,
}

impl Session<'_> {
    fn until_started(&mut self) -> Result<(), ExecError> {
        let deadline = Instant::now() + agent::PATIENCE;
        loop {
            for progress in self.step(Some(deadline), Self::interrupt)? {
                match progress {
                    Progress::Started { .. } => return Ok(()),
                    Progress::Refused(error) => return Err(ExecError::Refused { error }),
                    _ => {}
                }
            }
            // However much else the guest has to say.
            if Instant::now() >= deadline {
                return Err(self.failed(AgentError::Timeout));
            }
        }
    }

    /// Sees the process to its end, and its output to ours.
    fn follow(&mut self) -> Result<ExitStatus, ExecError> {
        match self.until_drained() {
            Err(ExecError::Agent {
                id,
                source: source @ (AgentError::Closed | AgentError::Io(_)),
            }) => {
                self.attached.drain_within(LAST_OUTPUT_GRACE, self.dir);
                Err(ExecError::Lost { id, source })
            }
            other => other,
        }
    }

    fn until_drained(&mut self) -> Result<ExitStatus, ExecError> {
        let resized = self.attached.catch_up_with_size();
        resized.map_err(|source| self.failed(source))?;
        loop {
            if let Some(status) = self.attached.exit()
                && self.attached.is_drained()
            {
                return Ok(status);
            }
            self.step(None, Self::forward)?;
        }
    }

    /// Waits for something to happen, and deals with it.
    fn step(
        &mut self,
        deadline: Option<Instant>,
        take: fn(&mut Self, u8) -> Result<(), ExecError>,
    ) -> Result<Vec<Progress>, ExecError> {
        let mut waiter = Waiter::new();
        self.attached.register(&mut waiter);
        waiter.readable(Source::Signals, self.signals.as_fd());
        let mut all = Vec::new();
        for source in waiter.wait(deadline).map_err(ExecError::io("wait"))? {
            match source {
                Source::Agent => {
                    let progress = self.attached.progress(self.dir);
                    all.extend(progress.map_err(|source| self.failed(source))?);
                }
                Source::Streams => {
                    let accepted = self.attached.accept_stream(self.dir);
                    accepted.map_err(ExecError::io("accept a stream of the process's"))?;
                }
                Source::Signals => {
                    while let Some(signal) = self.next_signal()? {
                        take(self, signal)?;
                    }
                }
                _ => {}
            }
        }
        Ok(all)
    }

    fn next_signal(&self) -> Result<Option<u8>, ExecError> {
        self.signals.next().map_err(ExecError::io("read a signal"))
    }

    /// A signal before the process runs: those that ask for an end get it.
    fn interrupt(_: &mut Self, signal: u8) -> Result<(), ExecError> {
        if signals::asks_for_end(signal) {
            Err(ExecError::Interrupted { signal })
        } else {
            Ok(())
        }
    }

    /// A signal is the process's; once that is over, those that ask for an end
    /// are about its output.
    fn forward(&mut self, signal: u8) -> Result<(), ExecError> {
        if self.attached.exit().is_none() {
            let sent = self.attached.signal(signal);
            sent.map_err(|source| self.failed(source))
        } else if signals::asks_for_end(signal) {
            Err(ExecError::Undrained { signal })
        } else {
            Ok(())
        }
    }

    fn failed(&self, source: AgentError) -> ExecError {
        ExecError::Agent {
            id: self.id.clone(),
            source,
        }
    }
}
