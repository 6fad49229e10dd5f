//! A guest that drives the socket device, without a kernel around it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::net::{UnixListener, UnixStream};

use bulkhead_vmm::devices::virtio::device::{Activation, VirtioDevice};
use bulkhead_vmm::devices::virtio::interrupt::Interrupt;
use bulkhead_vmm::devices::virtio::vsock::Vsock;
use bulkhead_vmm::event_loop::Handler;
use bulkhead_vmm::memory::GuestMemory;
use event_manager::{EventManager, SubscriberOps};
use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::signal::block_signal;

use crate::ring::{Descriptor, NEXT, Ring, WRITE};

/// The guest's context id.
pub const GUEST_CID: u64 = 3;
/// The host's.
pub const HOST_CID: u64 = 2;
/// The port of the host that is served.
pub const SERVED_PORT: u32 = 1024;
/// Socket type of a stream.
pub const STREAM: u16 = 1;

/// Bit of the feature `VIRTIO_F_EVENT_IDX` (virtio 1.3, 6).
const F_EVENT_IDX: u32 = 29;

/// Size of a packet's header (virtio 1.3, 5.10.6).
const HEADER_LEN: usize = 44;
/// Size of the guest's memory.
pub const MEMORY_LEN: usize = 1 << 20;

const RX_BASE: u64 = 0;
const TX_BASE: u64 = 0x1000;
const EVENT_BASE: u64 = 0x2000;
/// Receive buffers: one descriptor and a page each.
const RX_SIZE: u16 = 16;
const RX_BUFFERS: u64 = 0x1_0000;
/// Packets to the device: four descriptors and so many bytes each.
const TX_SIZE: u16 = 64;
const TX_BUFFERS: u64 = 0x4_0000;
const TX_BUFFER_LEN: u64 = 0x4000;
/// Greatest payload of a packet to the device.
const MAX_PAYLOAD: usize = TX_BUFFER_LEN as usize - HEADER_LEN;

/// More than a device at work takes to come to rest.
const MAX_ROUNDS: u32 = 10_000;

/// What a packet is for (virtio 1.3, 5.10.6).
pub mod op {
    /// Asks for a connection.
    pub const REQUEST: u16 = 1;
    /// Accepts one.
    pub const RESPONSE: u16 = 2;
    /// Refuses or ends one.
    pub const RESET: u16 = 3;
    /// Carries data.
    pub const READ_WRITE: u16 = 5;
    /// Tells the sender's buffer space.
    pub const CREDIT_UPDATE: u16 = 6;
    /// The greatest of them.
    pub const MAX: u16 = 7;
}

/// `struct virtio_vsock_hdr`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Header {
    pub src_cid: u64,
    pub dst_cid: u64,
    pub src_port: u32,
    pub dst_port: u32,
    pub len: u32,
    pub socket_type: u16,
    pub op: u16,
    pub flags: u32,
    pub buf_alloc: u32,
    pub fwd_cnt: u32,
}

impl Header {
    /// The header as it stands in memory.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend(self.src_cid.to_le_bytes());
        bytes.extend(self.dst_cid.to_le_bytes());
        for word in [self.src_port, self.dst_port, self.len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(self.socket_type.to_le_bytes());
        bytes.extend(self.op.to_le_bytes());
        for word in [self.flags, self.buf_alloc, self.fwd_cnt] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        Self {
            src_cid: u64_at(0),
            dst_cid: u64_at(8),
            src_port: u32_at(16),
            dst_port: u32_at(20),
            len: u32_at(24),
            socket_type: u16_at(28),
            op: u16_at(30),
            flags: u32_at(32),
            buf_alloc: u32_at(36),
            fwd_cnt: u32_at(40),
        }
    }
}

/// A packet from the device.
#[derive(Clone, Debug)]
pub struct Packet {
    pub header: Header,
    pub data: Vec<u8>,
}

/// The host's side of the socket device. Making it takes longer than to use it,
/// so that there is only one.
struct Host {
    device: Vsock,
    directory: TempDir,
    /// A program that serves port [`SERVED_PORT`].
    server: UnixListener,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::new());
}

impl Host {
    fn new() -> Self {
        // What Rust's own `main` sees to, and libFuzzer's does not: writing to a
        // closed stream is an error and no end.
        block_signal(libc::SIGPIPE).expect("a signal");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("vsock");
        let server = directory.path().join(format!("vsock_{SERVED_PORT}"));
        let server = UnixListener::bind(server).expect("a socket");
        server.set_nonblocking(true).expect("a socket");
        Self {
            device: Vsock::new(GUEST_CID, &path).expect("a device"),
            directory,
            server,
        }
    }
}

/// A program on the host that has connected to the device.
pub fn dial() -> UnixStream {
    let path = HOST.with_borrow(|host| host.directory.path().join("vsock"));
    let stream = UnixStream::connect(path).expect("a socket");
    stream.set_nonblocking(true).expect("a socket");
    stream
}

/// A connection of the guest's to port [`SERVED_PORT`].
pub fn accept() -> Option<UnixStream> {
    let (stream, _) = HOST.with_borrow(|host| host.server.accept()).ok()?;
    stream.set_nonblocking(true).expect("a socket");
    Some(stream)
}

/// A guest whose device is at work.
pub struct Guest {
    memory: GuestMemory,
    interrupt: Interrupt,
    rx: Ring,
    tx: Ring,
    events: EventManager<Handler>,
    /// Packets from the device that nobody has looked at.
    pub inbox: Vec<Packet>,
    /// Bytes received, by the ports of guest and host.
    received: HashMap<(u32, u32), u32>,
    free_tx: Vec<u16>,
    spare_rx: Vec<u16>,
    refill: bool,
}

/// What is left of a guest that has lost its manners.
pub struct Rings {
    pub memory: GuestMemory,
    /// The receive and the transmit queue.
    pub queues: [Ring; 2],
    events: EventManager<Handler>,
}

impl Guest {
    /// A guest that has set the device up, with event indices or without.
    pub fn new(event_idx: bool) -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_LEN)]).expect("memory");
        let interrupt = Interrupt::new(EventFd::new(EFD_NONBLOCK).expect("an eventfd"));
        let rx = Ring::new(RX_BASE, RX_SIZE);
        let tx = Ring::new(TX_BASE, TX_SIZE);
        let activation = Activation {
            memory: memory.clone(),
            features: u64::from(event_idx) << F_EVENT_IDX,
            queues: vec![rx.queue(), tx.queue(), Ring::new(EVENT_BASE, 4).queue()],
            interrupt: interrupt.clone(),
        };
        let handler = HOST.with_borrow_mut(|host| {
            host.device.reset();
            host.device.activate(activation).expect("an active device")
        });
        let mut events = EventManager::new().expect("an epoll instance");
        events.add_subscriber(handler);
        let mut guest = Self {
            memory,
            interrupt,
            rx,
            tx,
            events,
            inbox: Vec::new(),
            received: HashMap::new(),
            free_tx: (0..TX_SIZE).step_by(4).collect(),
            spare_rx: (0..RX_SIZE).collect(),
            refill: true,
        };
        guest.give_rx_buffers();
        guest
    }

    /// The header of a packet as a proper guest makes it.
    pub fn header(&self, op: u16, guest: u32, host: u32) -> Header {
        Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: guest,
            dst_port: host,
            socket_type: STREAM,
            op,
            buf_alloc: 1 << 16,
            fwd_cnt: self.received.get(&(guest, host)).copied().unwrap_or(0),
            ..Header::default()
        }
    }

    /// Sends a packet, its bytes cut at up to three places, if there is room in
    /// the ring.
    pub fn send(&mut self, header: Header, data: &[u8], cuts: [u8; 3]) {
        let data = &data[..data.len().min(MAX_PAYLOAD)];
        let header = Header {
            len: data.len() as u32,
            ..header
        };
        let Some(head) = self.free_tx.pop() else {
            return;
        };
        if [op::REQUEST, op::RESET].contains(&header.op) {
            self.received.remove(&(header.src_port, header.dst_port));
        }
        let mut bytes = header.to_bytes();
        bytes.extend(data);
        let address = TX_BUFFERS + u64::from(head / 4) * TX_BUFFER_LEN;
        self.memory
            .write_slice(&bytes, GuestAddress(address))
            .expect("memory");
        let len = bytes.len();
        let mut ends = cuts.map(|cut| usize::from(cut) % len).to_vec();
        ends.push(len);
        ends.sort_unstable();
        let mut start = 0;
        for (index, end) in (head..).zip(ends) {
            let descriptor = Descriptor {
                address: address + start as u64,
                len: (end - start) as u32,
                flags: if end < len { NEXT } else { 0 },
                next: index + 1,
            };
            self.tx.describe(&self.memory, index, descriptor);
            start = end;
        }
        self.tx.offer(&self.memory, head);
    }

    /// Whether buffers that were received go back to the device.
    pub fn set_refill(&mut self, refill: bool) {
        self.refill = refill;
        if refill {
            self.give_rx_buffers();
        }
    }

    fn give_rx_buffers(&mut self) {
        for head in std::mem::take(&mut self.spare_rx) {
            let descriptor = Descriptor {
                address: rx_buffer(head),
                len: 0x1000,
                flags: WRITE,
                next: 0,
            };
            self.rx.describe(&self.memory, head, descriptor);
            self.rx.offer(&self.memory, head);
        }
    }

    /// Lets the device work until it rests.
    pub fn run(&mut self) {
        let mut rounds = 0;
        while self.events.run_with_timeout(0).expect("an event loop") > 0 {
            rounds += 1;
            assert!(rounds < MAX_ROUNDS, "the device does not come to rest");
            self.reap();
        }
        assert!(!self.interrupt.needs_reset(), "a reset without a reason");
    }

    /// Leaves the rings to somebody else.
    pub fn into_rings(self) -> Rings {
        Rings {
            memory: self.memory,
            queues: [self.rx, self.tx],
            events: self.events,
        }
    }

    fn reap(&mut self) {
        while let Some((head, len)) = self.rx.take_used(&self.memory) {
            let head = u16::try_from(head).expect("a head that was offered");
            let packet = self.read_packet(head, len as usize);
            self.inbox.push(packet);
            self.spare_rx.push(head);
        }
        while let Some((head, _)) = self.tx.take_used(&self.memory) {
            self.free_tx.push(head as u16);
        }
        if self.refill {
            self.give_rx_buffers();
        }
    }

    fn read_packet(&mut self, head: u16, len: usize) -> Packet {
        assert!((HEADER_LEN..=0x1000).contains(&len));
        let mut bytes = vec![0; len];
        let address = GuestAddress(rx_buffer(head));
        self.memory.read_slice(&mut bytes, address).expect("memory");
        let data = bytes.split_off(HEADER_LEN);
        let header = Header::from_bytes(&bytes);
        assert_eq!(header.dst_cid, GUEST_CID);
        // What is sent to others than the host is reset in their name.
        assert!(header.src_cid == HOST_CID || header.op == op::RESET);
        assert_eq!(header.len as usize, data.len());
        assert!((op::REQUEST..=op::MAX).contains(&header.op));
        assert!(header.op == op::READ_WRITE || data.is_empty());
        let ports = (header.dst_port, header.src_port);
        let received = self.received.entry(ports).or_default();
        *received = received.wrapping_add(header.len);
        Packet { header, data }
    }
}

impl Rings {
    /// Lets the device work for a while: it need not come to rest, for what it
    /// writes may be new work.
    pub fn run(&mut self) {
        for _ in 0..100 {
            if self.events.run_with_timeout(0).expect("an event loop") == 0 {
                break;
            }
        }
    }
}

fn rx_buffer(head: u16) -> u64 {
    RX_BUFFERS + u64::from(head) * 0x1000
}
