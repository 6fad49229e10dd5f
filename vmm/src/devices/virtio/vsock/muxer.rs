//! Which packet belongs to which connection, and whose turn it is.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use super::backend::{self, Poller};
use super::buffer::{RxBuffer, TxPacket};
use super::connection::{Connection, Fate, Outgoing};
use super::handshake;
use super::packet::{HOST_CID, Header, Op, TYPE_STREAM};
use super::resets::{Ports, Resets};
use super::stream::HangUp;

/// Most streams at a time, those included whose program on the host has not
/// said yet what it wants.
pub(super) const MAX_STREAMS: usize = 512;

/// The first port of the host that connections to the guest come from. Those
/// below are for programs on the host to serve.
const FIRST_HOST_PORT: u32 = 1 << 30;

/// Token of the listener; streams have others.
const LISTENER: u64 = 0;

/// A stream of the host, and how far it has come.
#[derive(Debug)]
enum Slot {
    /// The program on the host has not said yet which port it wants.
    Handshake(UnixStream),
    /// There is a connection.
    Connection(Route),
}

#[derive(Debug)]
struct Route {
    connection: Connection<UnixStream>,
    ports: Ports,
    /// Whether it is among those with a packet for the guest.
    queued: bool,
    /// Whether the poller tells when the stream can be written to.
    watches_writes: bool,
}

/// All streams of a device.
#[derive(Debug)]
pub(super) struct Muxer {
    guest_cid: u64,
    listener: UnixListener,
    /// Where programs on the host listen, up to the port.
    base_path: PathBuf,
    poller: Poller,
    /// Never reused, so that no event can hit the wrong stream.
    next_token: u64,
    next_host_port: u32,
    slots: HashMap<u64, Slot>,
    tokens: HashMap<Ports, u64>,
    /// Connections with a packet for the guest, in the order of their turns.
    queue: VecDeque<u64>,
    resets: Resets,
    /// Whether programs wait that could not be accepted.
    accept_failed: bool,
}

impl Muxer {
    /// Serves programs that connect to `listener`, and lets the guest connect
    /// to those that listen at `base_path` with `_<port>` appended.
    pub(super) fn new(
        guest_cid: u64,
        listener: UnixListener,
        base_path: PathBuf,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&listener, LISTENER)?;
        Ok(Self {
            guest_cid,
            listener,
            base_path,
            poller,
            next_token: LISTENER + 1,
            next_host_port: FIRST_HOST_PORT,
            slots: HashMap::new(),
            tokens: HashMap::new(),
            queue: VecDeque::new(),
            resets: Resets::default(),
            accept_failed: false,
        })
    }

    /// Whether to take packets from the guest: not while those that answer
    /// earlier ones pile up.
    pub(super) fn accepts_packets(&self) -> bool {
        !self.resets.is_full()
    }

    /// Takes a packet from the guest.
    pub(super) fn handle(&mut self, packet: &TxPacket<'_>) {
        let header = &packet.header;
        if header.src_cid != self.guest_cid {
            // Nobody that could be answered.
            return;
        }
        if header.dst_cid != HOST_CID || header.socket_type != TYPE_STREAM {
            self.resets.answer(header);
            return;
        }
        let ports = Ports {
            guest: header.src_port,
            host: header.dst_port,
        };
        let token = self.tokens.get(&ports).copied();
        match (Op::from_u16(header.op), token) {
            (Some(Op::Request), Some(token)) => self.reset(token),
            (Some(Op::Request), None) => self.connect(ports, header),
            (Some(Op::Reset), token) => self.reset_by_guest(ports, token),
            (_, Some(token)) => self.deliver(token, packet),
            (_, None) => self.resets.answer(header),
        }
    }

    /// Whether [`next_packet`](Self::next_packet) is worth a call.
    pub(super) fn has_packets(&self) -> bool {
        !self.resets.is_empty() || !self.queue.is_empty()
    }

    /// Puts the next packet to the guest into `buffer`. Returns how many bytes
    /// of the buffer are used.
    pub(super) fn next_packet(&mut self, buffer: &RxBuffer<'_>) -> Option<u32> {
        if let Some(header) = self.resets.pop(self.guest_cid) {
            return Some(buffer.write_header(header));
        }
        for _ in 0..self.queue.len() {
            let token = self.queue.pop_front()?;
            let Some(Slot::Connection(route)) = self.slots.get_mut(&token) else {
                continue;
            };
            route.queued = false;
            let ports = route.ports;
            let packet = route.connection.next_packet(&buffer.payload);
            self.settle(token);
            if let Some(packet) = packet {
                return Some(buffer.write_header(self.header(ports, packet)));
            }
        }
        None
    }

    /// Takes what has happened on the host.
    pub(super) fn poll(&mut self) -> io::Result<()> {
        for (token, readiness) in self.poller.poll()? {
            if token == LISTENER {
                self.accept();
                continue;
            }
            match self.slots.get_mut(&token) {
                Some(Slot::Handshake(_)) => self.shake_hands(token, readiness.hang_up),
                Some(Slot::Connection(route)) => {
                    route.connection.ready(readiness);
                    self.settle(token);
                }
                // Closed by an earlier event.
                None => {}
            }
        }
        Ok(())
    }

    /// How many streams there are.
    #[cfg(test)]
    pub(super) fn streams(&self) -> usize {
        assert!(self.tokens.len() <= self.slots.len());
        assert!(self.queue.len() <= self.slots.len());
        self.slots.len()
    }

    /// Closes all streams.
    pub(super) fn close(&mut self) {
        self.slots.clear();
        self.tokens.clear();
        self.queue.clear();
    }

    fn header(&self, ports: Ports, packet: Outgoing) -> Header {
        Header {
            src_cid: HOST_CID,
            dst_cid: self.guest_cid,
            src_port: ports.host,
            dst_port: ports.guest,
            len: packet.len,
            socket_type: TYPE_STREAM,
            op: packet.op as u16,
            flags: packet.flags,
            buf_alloc: packet.buf_alloc,
            fwd_cnt: packet.fwd_cnt,
        }
    }

    /// Accepts all programs that wait. One too many sees its stream closed.
    fn accept(&mut self) {
        self.accept_failed = false;
        loop {
            match backend::accept(&self.listener) {
                Ok(Some(_)) if self.is_full() => {}
                Ok(Some(stream)) => {
                    if let Ok(token) = self.watch(&stream) {
                        self.slots.insert(token, Slot::Handshake(stream));
                    }
                }
                Ok(None) => return,
                // Out of descriptors or memory: again when some are free.
                Err(error) => {
                    log::warn!("cannot accept a connection to the guest: {error}");
                    self.accept_failed = true;
                    return;
                }
            }
        }
    }

    /// Reads from a program which port of the guest it wants.
    fn shake_hands(&mut self, token: u64, hang_up: HangUp) {
        let Some(Slot::Handshake(stream)) = self.slots.remove(&token) else {
            return;
        };
        match handshake::receive(&stream) {
            Ok(Some(guest)) => {
                let host = self.free_host_port(guest);
                let connection = Connection::requesting(stream, host);
                self.insert(token, Ports { guest, host }, connection);
            }
            Ok(None) if hang_up == HangUp::None => {
                self.slots.insert(token, Slot::Handshake(stream));
            }
            Ok(None) => self.slot_freed(),
            Err(error) => {
                log::debug!("no connection to the guest: {error}");
                self.slot_freed();
            }
        }
    }

    /// The guest asks for a connection to the host.
    fn connect(&mut self, ports: Ports, request: &Header) {
        self.resets.cancel(ports);
        if self.is_full() {
            self.resets.push(ports);
            return;
        }
        let connected = backend::connect(&self.base_path, ports.host)
            .and_then(|stream| Ok((self.watch(&stream)?, stream)));
        match connected {
            Ok((token, stream)) => {
                self.insert(token, ports, Connection::accepting(stream, request));
            }
            Err(error) => {
                log::debug!(
                    "the guest's connection to port {} is refused: {error}",
                    ports.host
                );
                self.resets.push(ports);
            }
        }
    }

    /// The guest has reset a connection, or answers to one that is gone.
    fn reset_by_guest(&mut self, ports: Ports, token: Option<u64>) {
        self.resets.cancel(ports);
        self.tokens.remove(&ports);
        if let Some(token) = token
            && let Some(Slot::Connection(route)) = self.slots.get_mut(&token)
        {
            route.connection.reset();
            self.settle(token);
        }
    }

    /// Gives a packet to its connection.
    fn deliver(&mut self, token: u64, packet: &TxPacket<'_>) {
        let Some(Slot::Connection(route)) = self.slots.get_mut(&token) else {
            return;
        };
        match route.connection.handle(packet) {
            Ok(()) => self.settle(token),
            Err(violation) => {
                log::debug!("resetting a connection: {violation}");
                self.reset(token);
            }
        }
    }

    /// Does what the state of a connection asks for, after each change.
    fn settle(&mut self, token: u64) {
        let Some(Slot::Connection(route)) = self.slots.get_mut(&token) else {
            return;
        };
        match route.connection.fate() {
            Fate::Alive => {}
            Fate::Finished | Fate::Forgotten => return self.reset(token),
        }
        if route.connection.has_packet() && !route.queued {
            route.queued = true;
            self.queue.push_back(token);
        }
        let waits = route.connection.backlog_len() > 0;
        if waits != route.watches_writes {
            route.watches_writes = waits;
            let stream = route.connection.stream();
            if let Err(error) = self.poller.watch_writes(stream, token, waits) {
                log::warn!("cannot watch a stream: {error}");
                self.reset(token);
            }
        }
    }

    /// Ends a connection, and tells the guest if it knows of it.
    fn reset(&mut self, token: u64) {
        let Some(Slot::Connection(route)) = self.slots.remove(&token) else {
            return;
        };
        if route.queued {
            self.queue.retain(|&queued| queued != token);
        }
        // The ports may have been taken over by a later connection.
        if self.tokens.get(&route.ports) == Some(&token) {
            self.tokens.remove(&route.ports);
            self.resets.push(route.ports);
        }
        drop(route);
        self.slot_freed();
    }

    /// Adds a connection whose stream is watched as `token`.
    fn insert(&mut self, token: u64, ports: Ports, connection: Connection<UnixStream>) {
        let route = Route {
            connection,
            ports,
            queued: false,
            watches_writes: false,
        };
        self.tokens.insert(ports, token);
        self.slots.insert(token, Slot::Connection(route));
        self.settle(token);
    }

    /// Watches a new stream: its token.
    fn watch(&mut self, stream: &UnixStream) -> io::Result<u64> {
        let token = self.next_token;
        self.poller.add(stream, token)?;
        self.next_token += 1;
        Ok(token)
    }

    /// A stream has been closed: a program that waits may take its place.
    fn slot_freed(&mut self) {
        if self.accept_failed {
            self.accept();
        }
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= MAX_STREAMS
    }

    /// A port of the host from which no connection to `guest` comes. It is not
    /// used again for as long as possible, for the guest may still be busy
    /// with the end of an earlier connection.
    fn free_host_port(&mut self, guest: u32) -> u32 {
        loop {
            let host = self.next_host_port;
            self.next_host_port = host.checked_add(1).unwrap_or(FIRST_HOST_PORT);
            if !self.tokens.contains_key(&Ports { guest, host }) {
                return host;
            }
        }
    }
}

impl AsRawFd for Muxer {
    /// Readable when there is something to [`poll`](Muxer::poll).
    fn as_raw_fd(&self) -> RawFd {
        self.poller.as_raw_fd()
    }
}
