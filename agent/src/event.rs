//! The event loop's sources.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

/// What an event is about. Keys are never used twice, so an event that was
/// overtaken by its source's end finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// Children have ended.
    Signals,
    /// A client wants to connect.
    Listener,
    /// A client's connection.
    Connection(u64),
    /// The last process of a cgroup that is to be removed may have ended.
    Cgroups,
    /// The channel to a process that does not execute its command yet.
    Control(u64),
    /// The host's side of a process's stream.
    StreamSocket(u64, StreamIndex),
    /// The process's side of its stream.
    StreamLocal(u64, StreamIndex),
}

/// Which one of a process's streams.
pub(crate) type StreamIndex = u8;

/// A token as epoll carries it: the kind in the low four bits, the stream in
/// the next four, the key above.
impl Token {
    const KEY_SHIFT: u32 = 8;

    fn encode(self) -> u64 {
        let (kind, stream, key) = match self {
            Self::Signals => (0, 0, 0),
            Self::Listener => (1, 0, 0),
            Self::Connection(key) => (2, 0, key),
            Self::Control(key) => (3, 0, key),
            Self::StreamSocket(key, stream) => (4, stream, key),
            Self::StreamLocal(key, stream) => (5, stream, key),
            Self::Cgroups => (6, 0, 0),
        };
        kind | u64::from(stream) << 4 | key << Self::KEY_SHIFT
    }

    fn decode(value: u64) -> Option<Self> {
        let key = value >> Self::KEY_SHIFT;
        let stream = (value >> 4 & 0xf) as StreamIndex;
        Some(match value & 0xf {
            0 => Self::Signals,
            1 => Self::Listener,
            2 => Self::Connection(key),
            3 => Self::Control(key),
            4 => Self::StreamSocket(key, stream),
            5 => Self::StreamLocal(key, stream),
            6 => Self::Cgroups,
            _ => return None,
        })
    }
}

/// An epoll instance.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// How many events are taken at once; the rest come next time.
const BATCH: usize = 64;

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(BATCH),
        })
    }

    /// Waits until something happens, and tells which sources it happened to.
    pub(crate) fn wait(&mut self) -> io::Result<Vec<Token>> {
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            None,
        ) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let token = |event: &Event| Token::decode({ event.data }.u64());
        Ok(self.events.iter().filter_map(token).collect())
    }

    /// Watches something for as long as it is open.
    pub(crate) fn add(
        &self,
        source: BorrowedFd<'_>,
        token: Token,
        interest: EventFlags,
    ) -> io::Result<()> {
        let data = EventData::new_u64(token.encode());
        Ok(epoll::add(&self.epoll, source, data, interest)?)
    }

    fn modify(&self, source: BorrowedFd<'_>, token: Token, interest: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(token.encode());
        Ok(epoll::modify(&self.epoll, source, data, interest)?)
    }

    fn delete(&self, source: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }
}

/// A descriptor and what the event loop watches it for. Level-triggered; when
/// nothing is wanted it is not watched at all, as epoll tells of a hang-up
/// regardless and would do so again and again.
#[derive(Debug)]
pub(crate) struct Watched {
    fd: OwnedFd,
    token: Token,
    interest: EventFlags,
}

impl Watched {
    /// Watches for nothing yet.
    pub(crate) fn new(fd: OwnedFd, token: Token) -> Self {
        Self {
            fd,
            token,
            interest: EventFlags::empty(),
        }
    }

    /// Changes what is watched for.
    pub(crate) fn watch(&mut self, poller: &Poller, interest: EventFlags) -> io::Result<()> {
        let source = self.fd.as_fd();
        match (self.interest.is_empty(), interest.is_empty()) {
            _ if self.interest == interest => {}
            (true, _) => poller.add(source, self.token, interest)?,
            (false, true) => poller.delete(source)?,
            (false, false) => poller.modify(source, self.token, interest)?,
        }
        self.interest = interest;
        Ok(())
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    proptest! {
        #[test]
        fn tokens_survive_their_encoding(key in 0u64..1 << 56, stream in 0u8..16) {
            for token in [
                Token::Signals,
                Token::Listener,
                Token::Cgroups,
                Token::Connection(key),
                Token::Control(key),
                Token::StreamSocket(key, stream),
                Token::StreamLocal(key, stream),
            ] {
                prop_assert_eq!(Token::decode(token.encode()), Some(token));
            }
        }
    }

    #[test]
    fn hang_up_is_not_told_to_who_does_not_ask() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut poller = Poller::new().unwrap();
        let mut watched = Watched::new(reader, Token::Connection(1));
        watched.watch(&poller, EventFlags::IN).unwrap();
        watched.watch(&poller, EventFlags::empty()).unwrap();
        let mut other = Watched::new(rustix::io::dup(&writer).unwrap(), Token::Connection(2));
        other.watch(&poller, EventFlags::OUT).unwrap();
        drop(writer);
        assert_eq!(poller.wait().unwrap(), [Token::Connection(2)]);
    }
}
