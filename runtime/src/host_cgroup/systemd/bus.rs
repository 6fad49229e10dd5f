//! A connection to systemd's manager, by the socket that `systemctl` uses, too: it is
//! there with and without a message bus.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::wire::{self, ERROR, FIXED_HEADER, METHOD_RETURN, Message, Reader, SIGNAL, Writer};
use crate::context::is_rootless;

/// How long systemd may take to answer, or to do what it was asked for.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why systemd cannot be talked to, or does not do what it is told.
#[derive(Debug, thiserror::Error)]
pub(in crate::host_cgroup) enum BusError {
    #[error("cannot connect to systemd at {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("cannot talk to systemd")]
    Io(#[from] io::Error),
    #[error("systemd does not accept us: {0}")]
    Refused(String),
    #[error("systemd's answer cannot be understood")]
    Malformed,
    #[error("systemd refuses {method}: {message}")]
    Method {
        method: &'static str,
        message: String,
    },
    #[error("systemd's job for {method} has failed: {result}")]
    Job {
        method: &'static str,
        result: String,
    },
}

/// A connection, which is closed when this goes.
#[derive(Debug)]
pub(super) struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
    /// Jobs that have ended, and how, by the paths of their objects.
    ended: Vec<(String, String)>,
}

impl Bus {
    /// Connects to the system's manager or, without root, to the user's.
    pub(super) fn connect() -> Result<Self, BusError> {
        let path = socket();
        let stream =
            UnixStream::connect(&path).map_err(|source| BusError::Connect { path, source })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut bus = Self {
            stream: BufReader::new(stream),
            serial: 0,
            ended: Vec::new(),
        };
        bus.authenticate()?;
        Ok(bus)
    }

    /// With no word on who we are: the kernel tells, whatever user namespace we are
    /// in. `BEGIN` does not wait for the answer: systemd would not notice a call that
    /// it has read together with it.
    fn authenticate(&mut self) -> Result<(), BusError> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let mut line = String::new();
            (&mut self.stream).take(1024).read_line(&mut line)?;
            match line.split_ascii_whitespace().next() {
                Some("DATA") => {}
                Some("OK") => return Ok(()),
                _ => return Err(BusError::Refused(line.trim_end().to_owned())),
            }
        }
    }

    /// Calls a method of the manager; the result is the answer's body.
    pub(super) fn call(
        &mut self,
        method: &'static str,
        signature: &str,
        arguments: &Writer,
    ) -> Result<Vec<u8>, BusError> {
        self.serial += 1;
        let message = wire::call(self.serial, method, signature, arguments);
        self.send(&message)?;
        loop {
            let message = self.receive()?;
            let is_answer = message.answers == Some(self.serial);
            match message.kind {
                METHOD_RETURN if is_answer => return Ok(message.body),
                ERROR if is_answer => {
                    let message = Reader::new(&message.body).string().unwrap_or_default();
                    return Err(BusError::Method { method, message });
                }
                _ => self.note(&message)?,
            }
        }
    }

    /// Calls a method that answers with a job, and waits for that.
    pub(super) fn run(
        &mut self,
        method: &'static str,
        signature: &str,
        arguments: &Writer,
    ) -> Result<(), BusError> {
        let answer = self.call(method, signature, arguments)?;
        let job = Reader::new(&answer).string()?;
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(path, _)| *path == job) {
                return match result.as_str() {
                    "done" => Ok(()),
                    _ => Err(BusError::Job {
                        method,
                        result: result.clone(),
                    }),
                };
            }
            let message = self.receive()?;
            self.note(&message)?;
        }
    }

    /// `JobRemoved`, which everybody is told who is connected like this, says which
    /// job has ended (its number, its path), whose unit's it was, and how it ended.
    fn note(&mut self, message: &Message) -> Result<(), BusError> {
        if message.kind == SIGNAL && message.member.as_deref() == Some("JobRemoved") {
            let mut body = Reader::new(&message.body);
            body.u32()?;
            let path = body.string()?;
            body.string()?;
            self.ended.push((path, body.string()?));
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    fn receive(&mut self) -> Result<Message, BusError> {
        let mut fixed = [0; FIXED_HEADER];
        self.stream.read_exact(&mut fixed)?;
        let mut bytes = fixed.to_vec();
        bytes.resize(FIXED_HEADER + wire::rest_of(&fixed)?, 0);
        self.stream.read_exact(&mut bytes[FIXED_HEADER..])?;
        Message::read(&bytes)
    }
}

fn socket() -> PathBuf {
    let user = env::var_os("XDG_RUNTIME_DIR").filter(|_| is_rootless());
    let run = user.map_or_else(|| PathBuf::from("/run"), PathBuf::from);
    run.join("systemd/private")
}
