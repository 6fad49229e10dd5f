//! A process in the guest that a process of the host stands for.

use std::io;
use std::time::Duration;

use bulkhead_protocol::{
    ExitStatus, Hello, Network, ProcessId, RemoteError, Reply, RequestBody, Response, WindowSize,
};

use crate::agent::{AgentError, Connection, Message};
use crate::events::Waiter;
use crate::sandbox::SandboxDir;
use crate::signals;
use crate::stdio::Streams;
use crate::stdio::console::Console;
use crate::stdio::terminal::{self, RawMode};

/// How long the last output of a process whose guest is gone may take: it is
/// all on our side, but whoever reads it may not.
pub(crate) const LAST_OUTPUT_GRACE: Duration = Duration::from_secs(5);

/// Request ids. Whatever is answered to a higher one is of no interest.
mod request {
    pub(super) const NETWORK: u64 = 0;
    pub(super) const CREATE: u64 = 1;
    pub(super) const START: u64 = 2;
    pub(super) const WAIT: u64 = 3;
    pub(super) const FIRST_FURTHER: u64 = 16;
}

/// What the owner of an [`Attached`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A signal has arrived.
    Signals,
    /// The VMM has told something, or is gone.
    Control,
    /// The file server is gone.
    FileServer,
    /// The agent calls its owner.
    Owner,
    /// The agent has told something, or takes more.
    Agent,
    /// The agent dials for a standard stream.
    Streams,
    /// All output has been passed on.
    Drained,
}

/// What has come of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The agent has said hello.
    Greeted(Hello),
    /// The container exists, and waits for its start.
    Created,
    /// The command runs.
    Started {
        /// The guest's time stamp counter when `execve` had succeeded.
        exec_tsc: u64,
    },
    /// The process is over.
    Exited(ExitStatus),
    /// What was asked for was refused.
    Refused(RemoteError),
}

/// The terminal on our side, whose size the guest's follows.
#[derive(Debug)]
pub(crate) enum Screen {
    /// There is none.
    None,
    /// The one this process was started on; in raw mode once the command runs.
    Inherited(Option<RawMode>),
    /// An engine's.
    Console(Console),
}

impl Screen {
    fn size(&self) -> Option<WindowSize> {
        match self {
            Self::None => None,
            Self::Inherited(_) => {
                terminal::size_of(io::stdin()).or_else(|| terminal::size_of(io::stdout()))
            }
            Self::Console(console) => console.size(),
        }
    }
}

/// A process in the guest, its streams relayed to ours.
#[derive(Debug)]
pub(crate) struct Attached {
    process: ProcessId,
    agent: Connection,
    streams: Streams,
    screen: Screen,
    next_request: u64,
    /// The request whose answer tells that the process is there, until then.
    beginning: Option<u64>,
    exit: Option<ExitStatus>,
}

impl Attached {
    /// A process that is about to be asked for.
    pub(crate) fn new(
        process: ProcessId,
        agent: Connection,
        streams: Streams,
        screen: Screen,
    ) -> Self {
        let next_request = request::FIRST_FURTHER;
        Self {
            process,
            agent,
            streams,
            screen,
            next_request,
            beginning: None,
            exit: None,
        }
    }

    /// Asks for the container, and to be told when its process ends. Its
    /// start, too, if `start`: all in one go, so that nothing is waited for.
    pub(crate) fn create(
        &mut self,
        network: Option<Box<Network>>,
        body: RequestBody,
        start: bool,
    ) -> Result<(), AgentError> {
        if let Some(network) = network {
            self.agent
                .send(request::NETWORK, RequestBody::Network(network))?;
        }
        self.begin(request::CREATE, body)?;
        if start {
            let container = self.process.container.clone();
            self.begin(request::START, RequestBody::Start { container })?;
        }
        self.wait()
    }

    /// Asks for a further process in a container, and to be told of its end.
    pub(crate) fn exec(&mut self, body: RequestBody) -> Result<(), AgentError> {
        self.begin(request::START, body)?;
        self.wait()
    }

    fn begin(&mut self, id: u64, body: RequestBody) -> Result<(), AgentError> {
        self.beginning = Some(id);
        self.agent.send(id, body)
    }

    fn wait(&mut self) -> Result<(), AgentError> {
        self.agent.send(
            request::WAIT,
            RequestBody::Wait {
                process: self.process.clone(),
            },
        )
    }

    /// How the process ended, if it has.
    pub(crate) fn exit(&self) -> Option<ExitStatus> {
        self.exit
    }

    /// Whether all that the process wrote has been passed on.
    pub(crate) fn is_drained(&self) -> bool {
        crate::events::wait_readable(self.streams.drained(), Duration::ZERO)
    }

    /// Leaves what is typed to the process. Not before it runs: until then a
    /// ^C shall end its start.
    pub(crate) fn enter_raw_mode(&mut self) -> io::Result<()> {
        if let Screen::Inherited(mode) = &mut self.screen {
            *mode = RawMode::enter()?;
        }
        Ok(())
    }

    /// Passes on a change of the terminal's size while the process was not there
    /// yet, whose signal could not be.
    pub(crate) fn catch_up_with_size(&mut self) -> Result<(), AgentError> {
        match (self.streams.request().terminal, self.screen.size()) {
            (Some(known), Some(size)) if known != size => self.signal(signals::WINDOW_CHANGED),
            _ => Ok(()),
        }
    }

    /// Passes a signal on.
    pub(crate) fn signal(&mut self, signal: u8) -> Result<(), AgentError> {
        let process = self.process.clone();
        let body = if signal == signals::WINDOW_CHANGED {
            let Some(size) = self.screen.size() else {
                return Ok(());
            };
            RequestBody::Resize { process, size }
        } else {
            RequestBody::Signal {
                process,
                signal,
                all: false,
            }
        };
        self.next_request += 1;
        self.agent.send(self.next_request, body)
    }

    /// Adds what this waits for.
    pub(crate) fn register<'a>(&'a self, waiter: &mut Waiter<'a, Source>) {
        if let Some(listener) = self.streams.listener() {
            waiter.readable(Source::Streams, listener);
        }
        if self.exit.is_some() {
            waiter.readable(Source::Drained, self.streams.drained());
        } else {
            self.agent.register(Source::Agent, waiter);
        }
    }

    /// Takes a stream that the agent dials.
    pub(crate) fn accept_stream(&mut self, dir: &SandboxDir) -> io::Result<()> {
        self.streams.accept(dir)
    }

    /// Takes in what the agent tells.
    pub(crate) fn progress(&mut self, dir: &SandboxDir) -> Result<Vec<Progress>, AgentError> {
        let mut progress = Vec::new();
        for message in self.agent.progress()? {
            match message {
                Message::Hello(hello) => progress.push(Progress::Greeted(hello)),
                Message::Reply(reply) => progress.extend(self.interpret(reply)?),
            }
        }
        if self.exit.is_some() {
            self.take_last_streams(dir)?;
        }
        Ok(progress)
    }

    fn interpret(&mut self, reply: Reply) -> Result<Option<Progress>, AgentError> {
        if reply.id >= request::FIRST_FURTHER {
            if let Err(error) = reply.result {
                log::debug!("the agent refused to pass something on: {error}");
            }
            return Ok(None);
        }
        if self.beginning == Some(reply.id) {
            self.beginning = None;
        }
        match (reply.id, reply.result) {
            (_, Err(error)) => Ok(Some(Progress::Refused(error))),
            (request::NETWORK, Ok(Response::Done)) => Ok(None),
            (request::CREATE, Ok(Response::Created { .. })) => Ok(Some(Progress::Created)),
            (request::START, Ok(Response::Started { exec_tsc, .. })) => {
                Ok(Some(Progress::Started { exec_tsc }))
            }
            // Nothing ends before it was there.
            (request::WAIT, Ok(Response::Exited(status))) if self.beginning.is_none() => {
                self.exit = Some(status);
                Ok(Some(Progress::Exited(status)))
            }
            (_, Ok(_)) => Err(AgentError::UnexpectedReply),
        }
    }

    /// Passes on what the process wrote before its guest was gone, as far as
    /// that goes within `grace`.
    pub(crate) fn drain_within(&mut self, grace: Duration, dir: &SandboxDir) {
        // A stream that cannot be taken has nothing to pass on.
        let _ = self.take_last_streams(dir);
        crate::events::wait_readable(self.streams.drained(), grace);
    }

    /// The streams were dialled before the process could run, but on other
    /// connections: what is still in the queue is taken before the end.
    fn take_last_streams(&mut self, dir: &SandboxDir) -> io::Result<()> {
        while let Some(listener) = self.streams.listener()
            && crate::events::wait_readable(listener, Duration::ZERO)
        {
            self.streams.accept(dir)?;
        }
        self.streams.close(dir);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use bulkhead_protocol::{StreamKind, VERSION, frame};

    use super::*;
    use crate::agent::tests::hello;
    use crate::stdio::Local;

    /// A process that was asked for, and the agent's side of it.
    struct Fixture {
        directory: tempfile::TempDir,
        dir: SandboxDir,
        agent: UnixStream,
        output: std::fs::File,
        attached: Attached,
    }

    impl Fixture {
        fn exec() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let dir = SandboxDir::open(directory.path()).unwrap();
            let (mut agent, ours) = UnixStream::pair().unwrap();
            frame::write(&mut agent, &hello(VERSION)).unwrap();
            let output = tempfile::tempfile().unwrap();
            let local = Local::Pipes {
                input: tempfile::tempfile().unwrap(),
                output: output.try_clone().unwrap(),
                error: tempfile::tempfile().unwrap(),
            };
            let process = ProcessId {
                container: "box".into(),
                exec: Some("e".into()),
            };
            let streams = Streams::listen(&dir, local).unwrap();
            let connection = Connection::new(ours).unwrap();
            let mut attached = Attached::new(process, connection, streams, Screen::None);
            let container = "box".into();
            attached.exec(RequestBody::Start { container }).unwrap();
            Self {
                directory,
                dir,
                agent,
                output,
                attached,
            }
        }

        fn reply(&mut self, id: u64, response: Response) {
            let result = Ok(response);
            frame::write(&mut self.agent, &Reply { id, result }).unwrap();
        }

        fn progress(&mut self) -> Result<Vec<Progress>, AgentError> {
            self.attached.progress(&self.dir)
        }
    }

    const STARTED: Response = Response::Started {
        pid: 7,
        exec_tsc: 8,
    };
    const EXITED: Response = Response::Exited(ExitStatus::Code(3));

    #[test]
    fn process_starts_and_ends() {
        let mut fixture = Fixture::exec();
        fixture.reply(request::START, STARTED);
        fixture.reply(request::WAIT, EXITED);
        let progress = fixture.progress().unwrap();
        assert_eq!(
            progress[1..],
            [
                Progress::Started { exec_tsc: 8 },
                Progress::Exited(ExitStatus::Code(3))
            ]
        );
        assert!(fixture.attached.is_drained());
    }

    #[test]
    fn end_before_the_beginning_is_nonsense() {
        let mut fixture = Fixture::exec();
        fixture.reply(request::WAIT, EXITED);
        let error = fixture.progress().unwrap_err();
        assert!(matches!(error, AgentError::UnexpectedReply), "{error:?}");
        assert_eq!(fixture.attached.exit(), None);
    }

    #[test]
    fn what_was_written_before_the_guest_was_gone_is_passed_on() {
        let mut fixture = Fixture::exec();
        let port = fixture.attached.streams.request().port;
        let path = fixture.directory.path().join(format!("vsock.sock_{port}"));
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(&[StreamKind::Stdout as u8]).unwrap();
        stream.write_all(&vec![7; 30_000]).unwrap();
        drop((stream, fixture.agent));
        fixture
            .attached
            .drain_within(LAST_OUTPUT_GRACE, &fixture.dir);
        assert_eq!(fixture.output.metadata().unwrap().len(), 30_000);
    }
}
