//! A client's connection: frames in, frames out, neither of which blocks.

use std::io;
use std::os::fd::OwnedFd;

use bulkhead_protocol::{Request, frame};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use serde::Serialize;

use crate::event::{Poller, Token, Watched};

/// A client that leaves more than this unread is dropped.
const MAX_UNREAD: usize = 1 << 20;

/// A client with more requests unanswered than this is dropped.
const MAX_UNANSWERED: usize = 4096;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("cannot transfer data")]
    Io(#[from] io::Error),
    #[error("the client sent nonsense")]
    Frame(#[from] frame::Error),
    #[error("the client does not read its replies: {unread} bytes")]
    TooMuchUnread { unread: usize },
    #[error("the client has {unanswered} requests unanswered")]
    TooManyUnanswered { unanswered: usize },
}

/// A connection. Requests that came are handed out; replies are queued.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Watched,
    connecting: bool,
    decoder: frame::Decoder,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
    unanswered: usize,
}

impl Connection {
    /// Takes over a socket that does not block, connected or connecting.
    pub(crate) fn new(socket: OwnedFd, key: u64) -> Self {
        Self {
            socket: Watched::new(socket, Token::Connection(key)),
            connecting: true,
            decoder: frame::Decoder::default(),
            unsent: Vec::new(),
            unanswered: 0,
        }
    }

    /// Queues a frame. It is sent with the next [`advance`](Self::advance).
    pub(crate) fn queue<T: Serialize>(&mut self, message: &T) -> Result<(), ConnectionError> {
        self.unsent.extend(frame::encode(message)?);
        let unread = self.unsent.len();
        if unread > MAX_UNREAD {
            return Err(ConnectionError::TooMuchUnread { unread });
        }
        Ok(())
    }

    /// Queues the answer to one of the requests.
    pub(crate) fn answer<T: Serialize>(&mut self, message: &T) -> Result<(), ConnectionError> {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.queue(message)
    }

    /// Reads what came, and returns the whole requests that were in it; `None`
    /// when the client has left.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<Vec<Request>>, ConnectionError> {
        if self.connecting {
            socket_error(&self.socket)
                .and_then(|result| result)
                .map_err(io::Error::from)?;
            self.connecting = false;
        }
        let mut requests = Vec::new();
        match rustix::io::read(&self.socket, &mut *buffer) {
            Ok(0) => {
                self.decoder.ended()?;
                return Ok(None);
            }
            Ok(n) => self.decoder.extend(&buffer[..n]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        while let Some(request) = self.decoder.take()? {
            requests.push(request);
        }
        self.unanswered += requests.len();
        match self.unanswered {
            unanswered if unanswered > MAX_UNANSWERED => {
                Err(ConnectionError::TooManyUnanswered { unanswered })
            }
            _ => Ok(Some(requests)),
        }
    }

    /// Sends as much as the socket takes, and watches for what comes next.
    pub(crate) fn advance(&mut self, poller: &Poller) -> Result<(), ConnectionError> {
        if !self.connecting && !self.unsent.is_empty() {
            match rustix::io::write(&self.socket, &self.unsent) {
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        let mut interest = EventFlags::IN;
        if self.connecting || !self.unsent.is_empty() {
            interest |= EventFlags::OUT;
        }
        Ok(self.socket.watch(poller, interest)?)
    }
}
