//! A standard stream: relayed between the process (a pipe or the master side of
//! its terminal) and the host (a vsock connection).
//!
//! Nothing blocks: each direction holds at most one buffer of bytes that its
//! sink did not take, and reads on only when that is gone. A slow reader so
//! slows down its own process, and nobody else.

mod flow;

use std::io;
use std::os::fd::OwnedFd;

use bulkhead_protocol::{StreamKind, WindowSize};
use rustix::event::epoll::EventFlags;
use rustix::io::ioctl_fionread;
use rustix::net::{Shutdown, shutdown, sockopt::socket_error};
use rustix::termios::tcsetwinsize;

use crate::child::window_size;
use crate::event::{Poller, StreamIndex, Token, Watched};
use flow::{Flow, Moved, Read, read_some};

/// Most that is read at once, and so most that a direction ever holds.
pub(crate) const BUFFER_LEN: usize = 64 << 10;

/// More than a terminal can hold (a few pages in the kernel's buffers).
const TERMINAL_REST: usize = 64 << 10;

/// A standard stream of a process.
#[derive(Debug)]
pub(crate) struct Stream {
    kind: StreamKind,
    process: u64,
    index: StreamIndex,
    socket: Option<Watched>,
    connecting: bool,
    local: Option<Watched>,
    /// From the process to the host.
    outbound: Flow,
    /// From the host to the process.
    inbound: Flow,
    /// The process has ended, and this many bytes of its own are left at most.
    rest: Option<usize>,
    /// What a terminal that is still to come will be resized to.
    size: Option<WindowSize>,
}

impl Stream {
    /// A stream over a connection being made. Its first byte tells its kind.
    /// `local` is the agent's end of the pipe; a terminal comes later.
    pub(crate) fn new(
        kind: StreamKind,
        process: u64,
        index: StreamIndex,
        socket: OwnedFd,
        local: Option<OwnedFd>,
    ) -> Self {
        Self {
            kind,
            process,
            index,
            socket: Some(Watched::new(socket, Token::StreamSocket(process, index))),
            connecting: true,
            local: local.map(|fd| Watched::new(fd, Token::StreamLocal(process, index))),
            outbound: Flow::new(vec![kind as u8], kind != StreamKind::Stdin),
            inbound: Flow::new(
                Vec::new(),
                matches!(kind, StreamKind::Stdin | StreamKind::Terminal),
            ),
            rest: None,
            size: None,
        }
    }

    pub(crate) fn kind(&self) -> StreamKind {
        self.kind
    }

    /// Its number among the streams of its process.
    pub(crate) fn index(&self) -> StreamIndex {
        self.index
    }

    /// Takes the master side of the process's terminal.
    pub(crate) fn set_terminal(&mut self, master: OwnedFd) {
        if let Some(size) = self.size.take() {
            // A terminal of the size that it started with is better than none.
            let _ = tcsetwinsize(&master, window_size(size));
        }
        let token = Token::StreamLocal(self.process, self.index);
        self.local = Some(Watched::new(master, token));
    }

    /// Sets the size of the terminal, now or when it comes.
    pub(crate) fn resize(&mut self, size: WindowSize) -> io::Result<()> {
        match &self.local {
            Some(master) => tcsetwinsize(master, window_size(size))?,
            None => self.size = Some(size),
        }
        Ok(())
    }

    /// Whether all that the process wrote has been handed over, or nobody is
    /// there to take it.
    pub(crate) fn is_over(&self) -> bool {
        self.socket.is_none()
    }

    /// The process has ended: what it left is still relayed, but nothing that
    /// others with the same pipe or terminal write from now on.
    pub(crate) fn process_ended(&mut self) {
        match self.kind {
            StreamKind::Stdin => self.close(),
            StreamKind::Stdout | StreamKind::Stderr => {
                let left = self.local.as_ref().map(ioctl_fionread);
                self.rest = Some(left.and_then(Result::ok).unwrap_or(0) as usize);
            }
            StreamKind::Terminal => {
                self.inbound.close();
                self.rest = Some(TERMINAL_REST);
            }
        }
    }

    /// Something happened at the host's side.
    pub(crate) fn socket_event(&mut self) {
        if !self.connecting {
            return;
        }
        self.connecting = false;
        let failed = self
            .socket
            .as_ref()
            .is_some_and(|socket| !matches!(socket_error(socket), Ok(Ok(()))));
        if failed {
            self.lose_socket();
        }
    }

    /// Moves what can be moved, once, and watches for when more can be. What a
    /// process left is moved as far as it goes: no event may tell of it again.
    pub(crate) fn advance(&mut self, poller: &Poller, buffer: &mut [u8]) -> io::Result<()> {
        if !self.connecting {
            self.advance_outbound(buffer);
            while self.rest.is_some() && self.socket.is_some() && self.outbound.wants_to_read() {
                self.advance_outbound(buffer);
            }
            self.advance_inbound(buffer);
        }
        self.watch(poller)
    }

    fn advance_outbound(&mut self, buffer: &mut [u8]) {
        let Some(socket) = &self.socket else {
            return;
        };
        let mut fresh: &[u8] = &[];
        if self.outbound.wants_to_read() {
            let limit = self.rest.unwrap_or(usize::MAX).min(buffer.len());
            let read = match &self.local {
                Some(local) if limit != 0 => read_some(local, &mut buffer[..limit]),
                // A terminal that is still to come, or never will.
                None if self.rest.is_none() => Read::Nothing,
                _ => Read::End,
            };
            match read {
                Read::Bytes(n) => {
                    self.rest = self.rest.map(|rest| rest - n);
                    fresh = &buffer[..n];
                }
                Read::Nothing if self.rest.is_none() => {}
                Read::Nothing | Read::End => self.outbound.source_open = false,
            }
        }
        if self.outbound.write(socket, fresh) == Moved::SinkClosed {
            return self.lose_socket();
        }
        if self.outbound.is_over() && self.kind != StreamKind::Stdin {
            self.finish_outbound();
        }
    }

    /// All output is with the host's side of the connection: end it. What the
    /// host still sends to a terminal finds no reader any more.
    fn finish_outbound(&mut self) {
        if let Some(socket) = &self.socket {
            // The peer may have closed already; then it knows.
            let _ = shutdown(socket, Shutdown::Write);
        }
        self.close();
    }

    fn advance_inbound(&mut self, buffer: &mut [u8]) {
        let (Some(socket), Some(local)) = (&self.socket, &self.local) else {
            return;
        };
        let mut fresh: &[u8] = &[];
        if self.inbound.wants_to_read() {
            match read_some(socket, buffer) {
                Read::Bytes(n) => fresh = &buffer[..n],
                Read::Nothing => {}
                // The host's terminal was hung up on, and so is this one.
                Read::End if self.kind == StreamKind::Terminal => return self.lose_socket(),
                Read::End => self.inbound.source_open = false,
            }
        }
        let moved = self.inbound.write(local, fresh);
        let over = moved == Moved::SinkClosed || self.inbound.is_over();
        if over && self.kind == StreamKind::Stdin {
            self.close();
        } else if moved == Moved::SinkClosed {
            self.inbound.close();
        }
    }

    /// The host is gone. Without a reader, a process that writes is told
    /// (SIGPIPE, SIGHUP); one that reads comes to the end of what there was.
    fn lose_socket(&mut self) {
        if self.kind == StreamKind::Stdin && !self.inbound.is_empty() {
            self.inbound.source_open = false;
            self.outbound.close();
        } else {
            self.close();
        }
    }

    /// Gives up what was not handed over, and both sides.
    pub(crate) fn close(&mut self) {
        self.outbound.close();
        self.inbound.close();
        self.socket = None;
        self.local = None;
    }

    fn watch(&mut self, poller: &Poller) -> io::Result<()> {
        let wanted = |condition, flag| if condition { flag } else { EventFlags::empty() };
        let has_socket = self.socket.is_some();
        let has_local = self.local.is_some();
        if let Some(socket) = &mut self.socket {
            let read = self.inbound.wants_to_read() && has_local && !self.connecting;
            let write = self.connecting || !self.outbound.is_empty();
            socket.watch(
                poller,
                wanted(read, EventFlags::IN) | wanted(write, EventFlags::OUT),
            )?;
        }
        if let Some(local) = &mut self.local {
            let read = self.outbound.wants_to_read() && has_socket && !self.connecting;
            let write = !self.inbound.is_empty();
            local.watch(
                poller,
                wanted(read, EventFlags::IN) | wanted(write, EventFlags::OUT),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use rustix::pty::{OpenptFlags, openpt};
    use rustix::termios::tcgetwinsize;

    use super::*;

    /// A stream between a Unix socket and a pipe, both ends in hand.
    struct Fixture {
        poller: Poller,
        buffer: Vec<u8>,
        stream: Stream,
        host: UnixStream,
        process: std::fs::File,
    }

    impl Fixture {
        fn new(kind: StreamKind) -> Self {
            let (host, guest) = UnixStream::pair().unwrap();
            guest.set_nonblocking(true).unwrap();
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            let (agent_s, process_s) = if kind == StreamKind::Stdin {
                (writer, reader)
            } else {
                (reader, writer)
            };
            rustix::io::ioctl_fionbio(&agent_s, true).unwrap();
            let mut stream = Stream::new(kind, 1, 0, guest.into(), Some(agent_s));
            stream.socket_event();
            Self {
                poller: Poller::new().unwrap(),
                buffer: vec![0; BUFFER_LEN],
                stream,
                host,
                process: process_s.into(),
            }
        }

        fn advance(&mut self) {
            self.stream.advance(&self.poller, &mut self.buffer).unwrap();
        }

        fn read_kind(&mut self) -> StreamKind {
            self.advance();
            let mut kind = [0];
            self.host.read_exact(&mut kind).unwrap();
            StreamKind::from_byte(kind[0]).unwrap()
        }
    }

    #[test]
    fn output_arrives_after_the_kind_and_ends() {
        let mut fixture = Fixture::new(StreamKind::Stdout);
        assert_eq!(fixture.read_kind(), StreamKind::Stdout);
        fixture.process.write_all(b"hello").unwrap();
        fixture.advance();
        fixture.stream.process_ended();
        fixture.advance();
        assert!(fixture.stream.is_over());
        let mut text = String::new();
        fixture.host.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn what_an_orphan_writes_after_the_end_is_not_waited_for() {
        let mut fixture = Fixture::new(StreamKind::Stdout);
        fixture.read_kind();
        fixture.process.write_all(b"own").unwrap();
        fixture.stream.process_ended();
        fixture.process.write_all(b"orphan's").unwrap();
        fixture.advance();
        assert!(fixture.stream.is_over());
        let mut text = String::new();
        fixture.host.read_to_string(&mut text).unwrap();
        assert_eq!(text, "own");
    }

    #[test]
    fn output_that_the_host_does_not_take_is_bounded_and_not_lost() {
        let mut fixture = Fixture::new(StreamKind::Stderr);
        fixture.read_kind();
        rustix::io::ioctl_fionbio(&fixture.process, true).unwrap();
        let mut sent = 0;
        for _ in 0..100 {
            sent += fixture.process.write(&vec![7; 30_000]).unwrap_or(0);
            fixture.advance();
        }
        assert!(fixture.stream.outbound.pending.len() <= BUFFER_LEN);
        fixture.stream.process_ended();
        fixture.advance();
        assert!(!fixture.stream.is_over());
        let mut received = 0;
        fixture.host.set_nonblocking(true).unwrap();
        while !fixture.stream.is_over() {
            received += fixture.host.read(&mut vec![0; 10_000]).unwrap_or(0);
            fixture.advance();
        }
        fixture.host.set_nonblocking(false).unwrap();
        received += std::io::copy(&mut fixture.host, &mut std::io::sink()).unwrap() as usize;
        assert_eq!(received, sent);
    }

    #[test]
    fn end_of_input_reaches_the_process_after_the_input() {
        let mut fixture = Fixture::new(StreamKind::Stdin);
        assert_eq!(fixture.read_kind(), StreamKind::Stdin);
        fixture.host.write_all(b"input").unwrap();
        fixture.host.shutdown(std::net::Shutdown::Write).unwrap();
        for _ in 0..3 {
            fixture.advance();
        }
        let mut text = String::new();
        fixture.process.read_to_string(&mut text).unwrap();
        assert_eq!(text, "input");
        assert!(fixture.stream.is_over());
    }

    #[test]
    fn end_of_a_terminals_input_is_a_hang_up() {
        let mut fixture = Fixture::new(StreamKind::Terminal);
        fixture.read_kind();
        fixture.host.shutdown(std::net::Shutdown::Write).unwrap();
        fixture.advance();
        assert!(fixture.stream.is_over());
    }

    #[test]
    fn a_terminal_has_the_size_that_was_asked_for_before_it_came() {
        let (_host, guest) = UnixStream::pair().unwrap();
        let mut stream = Stream::new(StreamKind::Terminal, 1, 0, guest.into(), None);
        let size = |rows, columns| WindowSize { rows, columns };
        stream.resize(size(1, 2)).unwrap();
        stream.resize(size(3, 4)).unwrap();
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let same = rustix::io::dup(&master).unwrap();
        stream.set_terminal(master);
        let set = tcgetwinsize(same).unwrap();
        assert_eq!((set.ws_row, set.ws_col), (3, 4));
    }

    #[test]
    fn a_host_that_leaves_closes_the_process_s_output() {
        let mut fixture = Fixture::new(StreamKind::Stdout);
        fixture.read_kind();
        drop(fixture.host);
        fixture.process.write_all(b"x").unwrap();
        fixture
            .stream
            .advance(&fixture.poller, &mut fixture.buffer)
            .unwrap();
        assert!(fixture.stream.is_over());
        let error = fixture.process.write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    proptest! {
        #[test]
        fn input_survives_any_fragmentation(chunks: Vec<Vec<u8>>) {
            let mut fixture = Fixture::new(StreamKind::Stdin);
            fixture.read_kind();
            let mut received = Vec::new();
            rustix::io::ioctl_fionbio(&fixture.process, true).unwrap();
            for chunk in &chunks {
                fixture.host.write_all(chunk).unwrap();
                fixture.advance();
                let _ = fixture.process.read_to_end(&mut received);
            }
            fixture.host.shutdown(std::net::Shutdown::Write).unwrap();
            fixture.advance();
            fixture.process.read_to_end(&mut received).unwrap();
            prop_assert_eq!(received, chunks.concat());
        }
    }
}
