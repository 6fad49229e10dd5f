//! The agent: what it keeps, and its event loop.

mod connection;
mod container;
mod launch;
mod lifecycle;
mod process;
mod request_error;
mod requests;
mod table;
mod upkeep;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use bulkhead_protocol::{Hello, RemoteError, Reply, Response, ports};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::cgroup::{Cgroup, Hierarchy};
use crate::event::{Poller, Token};
use crate::stream::BUFFER_LEN;
use crate::sys::{self, SingleThreaded};
use crate::transport::Transport;
use connection::{Connection, ConnectionError};
use process::ReplyTo;
use table::Table;

/// Most connections at a time; further ones are closed as they come.
const MAX_CONNECTIONS: usize = 1024;

/// What the agent is told when it is made.
pub struct Settings {
    /// How host and guest reach each other.
    pub transport: Box<dyn Transport>,
    /// Directory of the unified cgroup hierarchy in which containers get
    /// cgroups of their own.
    pub cgroups: PathBuf,
    /// First frame on every connection.
    pub hello: Hello,
}

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub struct AgentError {
    action: &'static str,
    source: io::Error,
}

impl AgentError {
    fn new(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, source }
    }
}

/// The agent.
pub struct Agent {
    settings: Settings,
    proof: SingleThreaded,
    poller: Poller,
    signals: SignalFd,
    listener: Option<OwnedFd>,
    connections: BTreeMap<u64, Connection>,
    table: Table,
    hierarchy: Option<Hierarchy>,
    /// Cgroups that are removed when their last processes are gone.
    discarded: Vec<Cgroup>,
    /// Whether the guest has been given a network.
    has_network: bool,
    /// What is read passes through here.
    buffer: Box<[u8]>,
    last_key: u64,
    shut_down: bool,
}

impl Agent {
    /// Makes an agent and dials the host's sandbox owner.
    ///
    /// From here on the calling process makes no threads.
    pub fn new(settings: Settings) -> Result<Self, AgentError> {
        let proof = SingleThreaded::check().map_err(AgentError::new("fork safely"))?;
        let poller = Poller::new().map_err(AgentError::new("make an epoll instance"))?;
        // A peer that has left is an error of the write, no more.
        sys::ignore_sigpipe().map_err(AgentError::new("ignore SIGPIPE"))?;
        let signals = catch_sigchld().map_err(AgentError::new("receive SIGCHLD"))?;
        let mut agent = Self {
            settings,
            proof,
            poller,
            signals,
            listener: None,
            connections: BTreeMap::new(),
            table: Table::default(),
            hierarchy: None,
            discarded: Vec::new(),
            has_network: false,
            buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
            last_key: 0,
            shut_down: false,
        };
        let owner = agent.settings.transport.dial(ports::SANDBOX_OWNER);
        agent.greet(owner.map_err(AgentError::new("dial the sandbox's owner"))?);
        Ok(agent)
    }

    /// Serves until a client asks for shutdown.
    pub fn run(&mut self) -> Result<(), AgentError> {
        self.start_listening().map_err(AgentError::new("listen"))?;
        while !self.shut_down {
            let tokens = self
                .poller
                .wait()
                .map_err(AgentError::new("wait for events"))?;
            for token in tokens {
                self.handle(token);
            }
        }
        Ok(())
    }

    fn start_listening(&mut self) -> io::Result<()> {
        self.poller
            .add(self.signals.as_fd(), Token::Signals, EventFlags::IN)?;
        let listener = self.settings.transport.listen(ports::AGENT)?;
        self.poller
            .add(listener.as_fd(), Token::Listener, EventFlags::IN)?;
        self.listener = Some(listener);
        Ok(())
    }

    fn handle(&mut self, token: Token) {
        match token {
            Token::Signals => {
                // Several signals may have become one.
                while let Ok(Some(_)) = self.signals.read_signal() {}
                self.reap();
            }
            Token::Listener => self.accept(),
            Token::Cgroups => {
                self.finish_freezes();
                self.remove_cgroups();
            }
            Token::Connection(key) => self.serve(key),
            Token::Control(key) => {
                self.control_event(key);
            }
            Token::StreamSocket(key, stream) => self.stream_event(key, stream, true),
            Token::StreamLocal(key, stream) => self.stream_event(key, stream, false),
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            // Closed at once beyond the limit: the client sees it, nobody waits.
            Ok(socket) if self.connections.len() < MAX_CONNECTIONS => self.greet(socket),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => log(&format!("cannot accept a connection: {error}")),
        }
    }

    /// Takes on a connection, which opens with the agent's hello.
    fn greet(&mut self, socket: OwnedFd) {
        let key = self.next_key();
        let mut connection = Connection::new(socket, key);
        let result = connection
            .queue(&self.settings.hello)
            .and_then(|()| connection.advance(&self.poller));
        match result {
            Ok(()) => drop(self.connections.insert(key, connection)),
            Err(error) => log_dropped(&error),
        }
    }

    fn serve(&mut self, key: u64) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        match connection.receive(&mut self.buffer) {
            Ok(Some(requests)) => {
                for request in requests {
                    let reply_to = ReplyTo {
                        connection: key,
                        request: request.id,
                    };
                    self.handle_request(reply_to, request.body);
                }
                self.advance_connection(key);
            }
            Ok(None) => self.forget_client(key),
            Err(error) => self.drop_connection(key, &error),
        }
    }

    /// Answers a request. If the client has left, nobody cares.
    fn reply(&mut self, to: ReplyTo, result: Result<Response, RemoteError>) {
        let reply = Reply {
            id: to.request,
            result,
        };
        let Some(connection) = self.connections.get_mut(&to.connection) else {
            return;
        };
        match connection.answer(&reply) {
            Ok(()) => self.advance_connection(to.connection),
            Err(error) => self.drop_connection(to.connection, &error),
        }
    }

    fn advance_connection(&mut self, key: u64) {
        if let Some(connection) = self.connections.get_mut(&key)
            && let Err(error) = connection.advance(&self.poller)
        {
            self.drop_connection(key, &error);
        }
    }

    fn drop_connection(&mut self, key: u64, error: &ConnectionError) {
        log_dropped(error);
        self.forget_client(key);
    }

    /// Forgets a connection and what was to be answered on it, and ends the
    /// processes that it stood for.
    fn forget_client(&mut self, key: u64) {
        self.connections.remove(&key);
        for container in self.table.containers_mut() {
            container
                .processes_mut()
                .for_each(|process| process.forget_client(key));
        }
    }

    /// A key that was never used before.
    fn next_key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }
}

fn catch_sigchld() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    Ok(SignalFd::with_flags(
        &mask,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

fn log_dropped(error: &ConnectionError) {
    let error: &dyn std::error::Error = error;
    let cause = error
        .source()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    log(&format!("dropped a connection: {error}{cause}"));
}

/// Writes to the console, whatever becomes of it.
pub(crate) fn log(message: &str) {
    let _ = writeln!(io::stderr(), "bulkhead-agent: {message}");
}
