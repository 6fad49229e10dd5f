//! The agent's RPC, seen from the host.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bulkhead_protocol::frame::{self, Decoder};
use bulkhead_protocol::{
    Hello, RemoteError, Reply, Request, RequestBody, Response, VERSION, ports,
};

use crate::events::Waiter;
use crate::sandbox::SandboxDir;

/// Most that may wait to be read by the agent, in bytes. What we send at once
/// is at most one frame and a few small ones.
const MAX_UNSENT: usize = 2 * frame::MAX_LEN;

/// How long a guest that runs may take to answer a request that does not wait
/// for anything.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Why talking to the agent failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// The VMM is not there, or does not let us through.
    #[error("cannot reach the agent in the guest")]
    Connect(#[source] io::Error),
    /// The guest does not listen.
    #[error("the agent in the guest does not take connections")]
    Refused,
    /// The connection failed.
    #[error("the connection to the agent failed")]
    Io(#[from] io::Error),
    /// What came is not what the protocol says.
    #[error("the agent does not keep to the protocol")]
    Protocol(#[from] frame::Error),
    /// The agent is of another build.
    #[error(
        "the agent speaks version {theirs} of the protocol and this program version {VERSION}; install an initramfs built together with it"
    )]
    Version {
        /// Its version.
        theirs: u32,
    },
    /// The connection has ended.
    #[error("the agent closed the connection")]
    Closed,
    /// The agent does not read what it is sent.
    #[error("the agent does not read its requests")]
    Stuck,
    /// The agent does not answer.
    #[error("the agent did not answer in time")]
    Timeout,
    /// It answered something else.
    #[error("the agent gave an answer that does not belong to the request")]
    UnexpectedReply,
    /// It refused.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// What comes from the agent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Its greeting, once.
    Hello(Hello),
    /// The answer to a request.
    Reply(Reply),
}

/// A connection that never blocks.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    decoder: Decoder,
    unsent: Vec<u8>,
    greeted: bool,
}

impl Connection {
    /// Takes over a stream on which the agent is about to say hello.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            decoder: Decoder::default(),
            unsent: Vec::new(),
            greeted: false,
        })
    }

    /// Connects to the agent of a running sandbox, which has to take the
    /// connection within `patience`.
    pub(crate) fn dial(dir: &SandboxDir, patience: Duration) -> Result<Self, AgentError> {
        let mut stream = dir.connect().map_err(AgentError::Connect)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(format!("CONNECT {}\n", ports::AGENT).as_bytes())?;
        let answer = read_line(&mut stream)?;
        if !answer.starts_with(b"OK ") {
            return Err(AgentError::Refused);
        }
        Ok(Self::new(stream)?)
    }

    /// Sends a request, or as much of it as the agent takes now.
    pub(crate) fn send(&mut self, id: u64, body: RequestBody) -> Result<(), AgentError> {
        self.unsent.extend(frame::encode(&Request { id, body })?);
        if self.unsent.len() > MAX_UNSENT {
            return Err(AgentError::Stuck);
        }
        self.flush()
    }

    /// Goes on with what is unsent.
    fn flush(&mut self) -> Result<(), AgentError> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return Err(AgentError::Closed),
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Err(AgentError::Closed),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Adds the connection to what is waited for.
    pub(crate) fn register<'a, T: Copy>(&'a self, name: T, waiter: &mut Waiter<'a, T>) {
        if self.unsent.is_empty() {
            waiter.readable(name, self.as_fd());
        } else {
            waiter.readable_or_writable(name, self.as_fd());
        }
    }

    /// Makes what progress can be made, and returns what has arrived.
    pub(crate) fn progress(&mut self) -> Result<Vec<Message>, AgentError> {
        self.flush()?;
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => {
                self.decoder.ended()?;
                return Err(AgentError::Closed);
            }
            Ok(n) => self.decoder.extend(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(AgentError::Closed),
            Err(e) => return Err(e.into()),
        }
        let mut messages = Vec::new();
        while let Some(message) = self.take()? {
            messages.push(message);
        }
        Ok(messages)
    }

    fn take(&mut self) -> Result<Option<Message>, AgentError> {
        if self.greeted {
            return Ok(self.decoder.take()?.map(Message::Reply));
        }
        let Some(hello) = self.decoder.take::<Hello>()? else {
            return Ok(None);
        };
        if hello.version != VERSION {
            return Err(AgentError::Version {
                theirs: hello.version,
            });
        }
        self.greeted = true;
        Ok(Some(Message::Hello(hello)))
    }

    /// Sends one request and waits for its answer, which has to come within
    /// `patience`.
    pub(crate) fn call(
        &mut self,
        body: RequestBody,
        patience: Duration,
    ) -> Result<Response, AgentError> {
        const ID: u64 = 1;
        self.send(ID, body)?;
        let deadline = Instant::now() + patience;
        loop {
            let mut waiter = Waiter::new();
            self.register((), &mut waiter);
            if waiter.wait(Some(deadline))?.is_empty() {
                return Err(AgentError::Timeout);
            }
            for message in self.progress()? {
                if let Message::Reply(Reply { id: ID, result }) = message {
                    return Ok(result?);
                }
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Reads up to the end of a line, and not a byte further.
fn read_line(stream: &mut UnixStream) -> Result<Vec<u8>, AgentError> {
    const MAX: usize = 32;
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX {
        match stream.read_exact(&mut byte) {
            Ok(()) if byte == *b"\n" => break,
            Ok(()) => line.push(byte[0]),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(AgentError::Refused),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(AgentError::Timeout),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(line)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread::{self, JoinHandle};

    use bulkhead_protocol::{ErrorKind, Stamps};

    use super::*;

    pub(crate) fn hello(version: u32) -> Hello {
        let stamps = Stamps {
            started_tsc: 1,
            ready_tsc: 2,
        };
        Hello {
            version,
            kernel_release: "6.12.0".into(),
            stamps,
        }
    }

    /// A sandbox's directory with an agent behind its socket, which says hello
    /// and then does as it is told.
    fn agent(
        behaviour: impl FnOnce(UnixStream) + Send + 'static,
    ) -> (tempfile::TempDir, SandboxDir, JoinHandle<()>) {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("vsock.sock")).unwrap();
        let dir = SandboxDir::open(directory.path()).unwrap();
        let agent = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert_eq!(read_line(&mut stream).unwrap(), b"CONNECT 1024");
            stream.write_all(b"OK 1073741824\n").unwrap();
            behaviour(stream);
        });
        (directory, dir, agent)
    }

    #[test]
    fn call_is_answered_by_the_reply_of_its_id() {
        let (_directory, dir, agent) = agent(|mut stream| {
            frame::write(&mut stream, &hello(VERSION)).unwrap();
            let request: Request = frame::read(&mut stream).unwrap().unwrap();
            for id in [request.id + 1, request.id] {
                let result = Ok(if id == request.id {
                    Response::Done
                } else {
                    Response::Created { pid: 1 }
                });
                frame::write(&mut stream, &Reply { id, result }).unwrap();
            }
        });
        let mut connection = Connection::dial(&dir, PATIENCE).unwrap();
        let response = connection
            .call(
                RequestBody::Start {
                    container: "a".into(),
                },
                PATIENCE,
            )
            .unwrap();
        assert_eq!(response, Response::Done);
        agent.join().unwrap();
    }

    #[test]
    fn refusal_is_told_in_the_agents_words() {
        let (_directory, dir, _agent) = agent(|mut stream| {
            frame::write(&mut stream, &hello(VERSION)).unwrap();
            let request: Request = frame::read(&mut stream).unwrap().unwrap();
            let error = RemoteError {
                kind: ErrorKind::NotFound,
                message: "no a here".into(),
            };
            frame::write(
                &mut stream,
                &Reply {
                    id: request.id,
                    result: Err(error),
                },
            )
            .unwrap();
        });
        let mut connection = Connection::dial(&dir, PATIENCE).unwrap();
        let error = connection
            .call(
                RequestBody::Status {
                    container: "a".into(),
                },
                PATIENCE,
            )
            .unwrap_err();
        assert_eq!(error.to_string(), "no a here");
    }

    #[test]
    fn agents_that_misbehave_are_told_apart() {
        let status = || RequestBody::Status {
            container: "a".into(),
        };
        let (_directory, dir, _agent) = agent(drop);
        let error = Connection::dial(&dir, PATIENCE)
            .unwrap()
            .call(status(), PATIENCE)
            .unwrap_err();
        assert!(matches!(error, AgentError::Closed), "{error:?}");

        let (_directory, dir, _agent) = agent(|mut stream| {
            frame::write(&mut stream, &hello(VERSION + 1)).unwrap();
            let _ = stream.read(&mut [0]);
        });
        let error = Connection::dial(&dir, PATIENCE)
            .unwrap()
            .call(status(), PATIENCE)
            .unwrap_err();
        assert!(matches!(error, AgentError::Version { theirs } if theirs == VERSION + 1));

        let (_directory, dir, _agent) = agent(|mut stream| {
            stream.write_all(&[0xff; 64]).unwrap();
            let _ = stream.read(&mut [0]);
        });
        let error = Connection::dial(&dir, PATIENCE)
            .unwrap()
            .call(status(), PATIENCE)
            .unwrap_err();
        assert!(matches!(error, AgentError::Protocol(_)), "{error:?}");
    }

    #[test]
    fn guest_that_does_not_listen_is_a_refusal() {
        let directory = tempfile::tempdir().unwrap();
        let dir = SandboxDir::open(directory.path()).unwrap();
        assert!(matches!(
            Connection::dial(&dir, PATIENCE),
            Err(AgentError::Connect(_))
        ));
        let listener = UnixListener::bind(directory.path().join("vsock.sock")).unwrap();
        let vmm = thread::spawn(move || drop(listener.accept().unwrap()));
        let error = Connection::dial(&dir, PATIENCE).unwrap_err();
        assert!(
            matches!(error, AgentError::Refused | AgentError::Io(_)),
            "{error:?}"
        );
        vmm.join().unwrap();
    }
}
