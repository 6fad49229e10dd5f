//! The host's side: Unix sockets.

use std::ffi::OsString;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::stream::{HangUp, Readiness, Stream};

/// Most events that one [`Poller::poll`] returns.
const MAX_EVENTS: usize = 64;

/// Listens for programs that want to reach the guest, without blocking.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The next program that wants to reach the guest, if there is one.
pub(super) fn accept(listener: &UnixListener) -> io::Result<Option<UnixStream>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        match rustix::net::accept_with(listener, flags) {
            Ok(stream) => return Ok(Some(stream.into())),
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Connects to the program that serves the guest's connections to `port`. It
/// listens at `base` with `_<port>` appended. One that is too slow to accept
/// is one that refuses.
pub(super) fn connect(base: &Path, port: u32) -> io::Result<UnixStream> {
    let mut path = OsString::from(base);
    path.push(format!("_{port}"));
    let address = SocketAddrUnix::new(PathBuf::from(path))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket.into())
}

impl Stream for UnixStream {
    fn shutdown_read(&mut self) {
        // It fails only if the other end is gone already.
        let _ = self.shutdown(Shutdown::Read);
        // Nothing comes after that, so there is an end to it.
        let mut discarded = [0; 4096];
        while io::Read::read(self, &mut discarded).is_ok_and(|count| count > 0) {}
    }

    fn shutdown_write(&mut self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// Tells which of many sockets have become ready, once for each time they do.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll })
    }

    /// Watches `socket`, until it is closed, for what can be read from it.
    pub(super) fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let data = EventData::new_u64(token);
        epoll::add(&self.epoll, socket, data, interest(false))?;
        Ok(())
    }

    /// Starts or stops to watch whether `socket` can be written to as well.
    /// If it can be at that moment, that is told.
    pub(super) fn watch_writes(
        &self,
        socket: impl AsFd,
        token: u64,
        watched: bool,
    ) -> io::Result<()> {
        let data = EventData::new_u64(token);
        epoll::modify(&self.epoll, socket, data, interest(watched))?;
        Ok(())
    }

    /// What has become ready, by token, if anything has.
    pub(super) fn poll(&self) -> io::Result<Vec<(u64, Readiness)>> {
        let mut events: Vec<Event> = Vec::with_capacity(MAX_EVENTS);
        let now = rustix::event::Timespec::default();
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&now)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(events.iter().map(decode).collect())
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

fn interest(writes: bool) -> EventFlags {
    let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
    if writes {
        interest | EventFlags::OUT
    } else {
        interest
    }
}

fn decode(event: &Event) -> (u64, Readiness) {
    // The record is packed: no references into it.
    let (flags, data) = (event.flags, event.data);
    let hang_up = if flags.contains(EventFlags::HUP) {
        HangUp::Both
    } else if flags.intersects(EventFlags::RDHUP | EventFlags::ERR) {
        HangUp::Writing
    } else {
        HangUp::None
    };
    let readiness = Readiness {
        readable: flags.contains(EventFlags::IN) || hang_up != HangUp::None,
        writable: flags.contains(EventFlags::OUT),
        hang_up,
    };
    (data.u64(), readiness)
}
