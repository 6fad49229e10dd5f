//! A driver, without a kernel around it.

use std::collections::VecDeque;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use event_manager::{EventManager, SubscriberId, SubscriberOps};
use tempfile::TempDir;
use virtio_bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_USED_F_NO_NOTIFY,
};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::devices::virtio::device::{Activation, ActiveQueue, VirtioDevice};
use crate::devices::virtio::interrupt::Interrupt;
use crate::devices::virtio::vsock::Vsock;
use crate::devices::virtio::vsock::packet::{HEADER_SIZE, HOST_CID, Header, Op, TYPE_STREAM};
use crate::devices::virtio::vsock::queue_handler::QueueHandler;
use crate::memory::GuestMemory;

pub(super) const GUEST_CID: u64 = 3;

/// Where the event queue, the receive and the transmit queue live.
const QUEUE_BASES: [u64; 3] = [0x10_0000, 0x40_0000, 0x80_0000];
/// Entries of the receive and of the transmit queue.
pub(super) const QUEUE_SIZE: u16 = 128;
const MEMORY_SIZE: usize = 0x100_0000;
/// Descriptors of a packet to the device, at most.
const TX_DESCRIPTORS: u16 = 4;
const RX: usize = 1;
const TX: usize = 2;

/// Payload that fits into a receive buffer: with the header, as Linux has it.
pub(super) const RX_PAYLOAD: usize = 4096 - HEADER_SIZE;

/// A packet as the driver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) header: Header,
    pub(super) data: Vec<u8>,
}

impl Packet {
    pub(super) fn op(&self) -> Op {
        Op::from_u16(self.header.op).unwrap()
    }
}

/// A buffer that a driver makes available.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub(super) address: u64,
    pub(super) len: u32,
    pub(super) writable: bool,
}

/// The driver's side of a queue.
struct Ring {
    base: u64,
    size: u16,
    next_avail: u16,
    next_used: u16,
    event_idx: bool,
    kick: EventFd,
}

impl Ring {
    fn avail(&self) -> u64 {
        self.base + 16 * u64::from(self.size)
    }

    fn used(&self) -> u64 {
        (self.avail() + 6 + 2 * u64::from(self.size)).next_multiple_of(4)
    }

    /// Where the buffers of the chain that starts at descriptor `head` are.
    fn buffer(&self, head: u16) -> u64 {
        self.base + 0x1_0000 + u64::from(head) * 0x5000
    }

    fn queue(&self) -> Queue {
        let mut queue = Queue::new(256).unwrap();
        queue.set_size(self.size);
        queue.set_desc_table_address(Some(self.base as u32), Some(0));
        queue.set_avail_ring_address(Some(self.avail() as u32), Some(0));
        queue.set_used_ring_address(Some(self.used() as u32), Some(0));
        queue.set_ready(true);
        queue
    }

    /// Makes a chain available that starts at descriptor `head`.
    fn offer(&mut self, memory: &GuestMemory, head: u16, buffers: &[Buffer]) {
        for (index, buffer) in buffers.iter().enumerate() {
            let descriptor = head + index as u16;
            let mut flags = 0;
            if index + 1 < buffers.len() {
                flags |= VRING_DESC_F_NEXT as u16;
            }
            if buffer.writable {
                flags |= VRING_DESC_F_WRITE as u16;
            }
            let at = self.base + 16 * u64::from(descriptor);
            let write = |value: &[u8], offset: u64| {
                memory
                    .write_slice(value, GuestAddress(at + offset))
                    .unwrap();
            };
            write(&buffer.address.to_le_bytes(), 0);
            write(&buffer.len.to_le_bytes(), 8);
            write(&flags.to_le_bytes(), 12);
            write(&(descriptor + 1).to_le_bytes(), 14);
        }
        let entry = self.avail() + 4 + 2 * u64::from(self.next_avail % self.size);
        memory.write_obj(head, GuestAddress(entry)).unwrap();
        self.next_avail = self.next_avail.wrapping_add(1);
        let index = GuestAddress(self.avail() + 2);
        memory.write_obj(self.next_avail, index).unwrap();
        if self.kick_is_wanted(memory) {
            self.kick.write(1).unwrap();
        }
    }

    /// Whether the device wants to hear of the chain made available last.
    fn kick_is_wanted(&self, memory: &GuestMemory) -> bool {
        let read = |at| memory.read_obj::<u16>(GuestAddress(at)).unwrap();
        if self.event_idx {
            let avail_event = read(self.used() + 4 + 8 * u64::from(self.size));
            avail_event == self.next_avail.wrapping_sub(1)
        } else {
            u32::from(read(self.used())) & VRING_USED_F_NO_NOTIFY == 0
        }
    }

    /// The next chain that the device has used: head and length.
    fn take_used(&mut self, memory: &GuestMemory) -> Option<(u16, u32)> {
        let index: u16 = memory.read_obj(GuestAddress(self.used() + 2)).unwrap();
        if index == self.next_used {
            return None;
        }
        let entry = self.used() + 4 + 8 * u64::from(self.next_used % self.size);
        let head: u32 = memory.read_obj(GuestAddress(entry)).unwrap();
        let len: u32 = memory.read_obj(GuestAddress(entry + 4)).unwrap();
        self.next_used = self.next_used.wrapping_add(1);
        // With event indices: tell of the next one.
        let used_event = self.avail() + 4 + 2 * u64::from(self.size);
        memory
            .write_obj(self.next_used, GuestAddress(used_event))
            .unwrap();
        Some((head as u16, len))
    }
}

/// How the driver sets the device up.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    /// Receive buffers, at most [`QUEUE_SIZE`].
    pub(super) rx_buffers: u16,
    pub(super) event_idx: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            rx_buffers: 16,
            event_idx: false,
        }
    }
}

/// A device, its driver, and the host's directory with its sockets.
pub(super) struct Driver {
    pub(super) interrupt: Interrupt,
    pub(super) memory: GuestMemory,
    /// Packets from the device that nobody has looked at yet.
    pub(super) inbox: VecDeque<Packet>,
    /// Whether received buffers go back to the device at once.
    pub(super) refill: bool,
    device: Vsock,
    handler: SubscriberId,
    events: EventManager<QueueHandler>,
    rings: [Ring; 3],
    setup: Setup,
    /// Receive buffers to go back to the device.
    spare: Vec<u16>,
    free_tx: Vec<u16>,
    directory: TempDir,
}

impl Driver {
    pub(super) fn new() -> Self {
        Self::with(Setup::default())
    }

    pub(super) fn with(setup: Setup) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vsock");
        let device = Vsock::new(GUEST_CID, &path).unwrap();
        Self::activate(device, directory, setup)
    }

    /// The device before its driver is up, and where it listens.
    pub(super) fn device() -> (Vsock, TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vsock");
        let device = Vsock::new(GUEST_CID, &path).unwrap();
        (device, directory, path)
    }

    pub(super) fn activate(device: Vsock, directory: TempDir, setup: Setup) -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_SIZE)]).unwrap();
        let rings = QUEUE_BASES.map(|base| Ring {
            base,
            size: QUEUE_SIZE,
            next_avail: 0,
            next_used: 0,
            event_idx: setup.event_idx,
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
        });
        let interrupt = Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let queues = [RX, TX, 0]
            .map(|index| ActiveQueue {
                queue: rings[index].queue(),
                kick: rings[index].kick.try_clone().unwrap(),
            })
            .into();
        let handler = device
            .start(Activation {
                memory: memory.clone(),
                features: u64::from(setup.event_idx) << VIRTIO_RING_F_EVENT_IDX,
                queues,
                interrupt: interrupt.clone(),
            })
            .unwrap();
        let mut events = EventManager::new().unwrap();
        let handler = events.add_subscriber(handler);
        let mut driver = Self {
            interrupt,
            memory,
            inbox: VecDeque::new(),
            refill: true,
            device,
            handler,
            events,
            spare: (0..setup.rx_buffers).collect(),
            free_tx: (0..16).map(|packet| packet * TX_DESCRIPTORS).collect(),
            rings,
            setup,
            directory,
        };
        driver.give_rx_buffers();
        driver
    }

    /// Resets the device, as its transport does, and sets it up again.
    pub(super) fn reset(mut self) -> Self {
        drop(self.events.remove_subscriber(self.handler).unwrap());
        self.device.reset();
        Self::activate(self.device, self.directory, self.setup)
    }

    /// Where programs on the host reach the guest.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("vsock")
    }

    /// A program on the host that serves `port`.
    pub(super) fn listen(&self, port: u32) -> UnixListener {
        let path = self.directory.path().join(format!("vsock_{port}"));
        UnixListener::bind(path).unwrap()
    }

    /// A program on the host that has connected to the device.
    pub(super) fn dial(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    /// How many streams of the host the device has.
    pub(super) fn streams(&mut self) -> usize {
        self.events.subscriber_mut(self.handler).unwrap().streams()
    }

    pub(super) fn write_memory(&self, address: u64, bytes: &[u8]) {
        let address = GuestAddress(address);
        self.memory.write_slice(bytes, address).unwrap();
    }

    /// Gives all receive buffers that are not in use to the device.
    pub(super) fn give_rx_buffers(&mut self) {
        for head in std::mem::take(&mut self.spare) {
            let buffer = Buffer {
                address: self.rings[RX].buffer(head),
                len: (HEADER_SIZE + RX_PAYLOAD) as u32,
                writable: true,
            };
            self.rings[RX].offer(&self.memory, head, &[buffer]);
        }
    }

    /// Uses up the receive buffers that the device has, with answers to packets
    /// that belong nowhere.
    pub(super) fn take_rx_buffers(&mut self) {
        assert!(!self.refill);
        for port in self.spare.len() as u32..u32::from(self.setup.rx_buffers) {
            let stray = Socket::new(1 << 31 | port, 1);
            stray.send(self, Op::ReadWrite);
            assert_eq!(self.inbox.pop_back().unwrap().op(), Op::Reset);
        }
    }

    /// Makes any chain available to the device, for reception or not.
    pub(super) fn offer_raw(&mut self, for_rx: bool, buffers: &[Buffer]) {
        let ring = &mut self.rings[if for_rx { RX } else { TX }];
        ring.offer(&self.memory, 0, buffers);
    }

    /// Announces `count` chains more than there are.
    pub(super) fn announce_chains(&mut self, count: u16) {
        let ring = &mut self.rings[TX];
        ring.next_avail = ring.next_avail.wrapping_add(count);
        let index = GuestAddress(ring.avail() + 2);
        self.memory.write_obj(ring.next_avail, index).unwrap();
        ring.kick.write(1).unwrap();
    }

    /// Puts a packet into the transmit queue, its header and payload in up to
    /// four uneven pieces. Whether there was room.
    pub(super) fn try_send(&mut self, header: Header, data: &[u8]) -> bool {
        let Some(head) = self.free_tx.pop() else {
            return false;
        };
        let header = Header {
            len: data.len() as u32,
            ..header
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(data);
        let start = self.rings[TX].buffer(head);
        self.memory
            .write_slice(&bytes, GuestAddress(start))
            .unwrap();
        let len = bytes.len();
        let cuts = [0, 40, HEADER_SIZE.midpoint(len), len.saturating_sub(3), len];
        let mut buffers = Vec::new();
        let mut from = 0;
        for to in cuts {
            if to > from {
                buffers.push(Buffer {
                    address: start + from as u64,
                    len: (to - from) as u32,
                    writable: false,
                });
                from = to;
            }
        }
        self.rings[TX].offer(&self.memory, head, &buffers);
        true
    }

    /// Puts the same packet into every entry of the transmit queue at once.
    pub(super) fn flood(&mut self, header: Header) {
        self.free_tx.clear();
        let address = 0x20_0000;
        self.write_memory(address, &header.to_bytes());
        let buffer = Buffer {
            address,
            len: HEADER_SIZE as u32,
            writable: false,
        };
        for head in 0..QUEUE_SIZE {
            self.rings[TX].offer(&self.memory, head, &[buffer]);
        }
    }

    /// Whether the device wants to hear of new receive buffers.
    pub(super) fn waits_for_rx_buffers(&self) -> bool {
        self.rings[RX].kick_is_wanted(&self.memory)
    }

    /// Sends a packet and lets the device work.
    pub(super) fn send(&mut self, header: Header, data: &[u8]) {
        assert!(self.try_send(header, data), "the device takes no packets");
        self.run();
    }

    /// Lets the device work until it has nothing to do.
    pub(super) fn run(&mut self) {
        while self.events.run_with_timeout(0).unwrap() > 0 {
            self.reap();
        }
    }

    /// The next packet from the device.
    pub(super) fn receive(&mut self) -> Packet {
        self.run();
        self.inbox.pop_front().expect("no packet")
    }

    pub(super) fn assert_no_packet(&mut self) {
        self.run();
        assert_eq!(self.inbox.pop_front(), None);
    }

    /// The last packet from the device.
    pub(super) fn receive_last(&mut self) -> Packet {
        self.run();
        self.inbox.pop_back().expect("no packet")
    }

    pub(super) fn assert_no_reset(&mut self) {
        self.run();
        let mut packets = self.inbox.iter();
        assert!(packets.all(|packet| packet.op() != Op::Reset));
    }

    fn reap(&mut self) {
        let mut used = false;
        while let Some((head, len)) = self.rings[RX].take_used(&self.memory) {
            let mut bytes = vec![0; len as usize];
            let address = GuestAddress(self.rings[RX].buffer(head));
            self.memory.read_slice(&mut bytes, address).unwrap();
            let data = bytes.split_off(HEADER_SIZE);
            let header = Header::from_bytes(&bytes.try_into().unwrap());
            assert_eq!(header.len as usize, data.len());
            assert_eq!(header.dst_cid, GUEST_CID);
            self.inbox.push_back(Packet { header, data });
            self.spare.push(head);
            used = true;
        }
        if self.refill && !self.spare.is_empty() {
            self.give_rx_buffers();
        }
        while let Some((head, _)) = self.rings[TX].take_used(&self.memory) {
            if head % TX_DESCRIPTORS == 0 {
                self.free_tx.push(head);
            }
            used = true;
        }
        assert!(
            !used || self.interrupt.line().read().is_ok(),
            "no interrupt"
        );
    }
}

/// The guest's end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    pub(super) port: u32,
    pub(super) host_port: u32,
    pub(super) buf_alloc: u32,
    pub(super) fwd_cnt: u32,
    pub(super) tx_cnt: u32,
    pub(super) device_buf_alloc: u32,
    pub(super) device_fwd_cnt: u32,
}

impl Socket {
    pub(super) fn new(port: u32, host_port: u32) -> Self {
        Self {
            port,
            host_port,
            buf_alloc: 256 * 1024,
            fwd_cnt: 0,
            tx_cnt: 0,
            device_buf_alloc: 0,
            device_fwd_cnt: 0,
        }
    }

    pub(super) fn header(&self, op: Op) -> Header {
        Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: self.port,
            dst_port: self.host_port,
            len: 0,
            socket_type: TYPE_STREAM,
            op: op as u16,
            flags: 0,
            buf_alloc: self.buf_alloc,
            fwd_cnt: self.fwd_cnt,
        }
    }

    pub(super) fn send(&self, driver: &mut Driver, op: Op) {
        driver.send(self.header(op), &[]);
    }

    pub(super) fn shut_down(&self, driver: &mut Driver, flags: u32) {
        let header = Header {
            flags,
            ..self.header(Op::Shutdown)
        };
        driver.send(header, &[]);
    }

    /// Sends data, whether or not there is credit for it.
    pub(super) fn write(&mut self, driver: &mut Driver, data: &[u8]) {
        driver.send(self.header(Op::ReadWrite), data);
        self.tx_cnt += data.len() as u32;
    }

    pub(super) fn credit(&self) -> u32 {
        self.device_buf_alloc - (self.tx_cnt - self.device_fwd_cnt)
    }

    /// Takes the credit that a packet brings.
    pub(super) fn learn(&mut self, packet: &Packet) {
        assert!(self.owns(packet), "{:?}", packet.header);
        self.device_buf_alloc = packet.header.buf_alloc;
        self.device_fwd_cnt = packet.header.fwd_cnt;
    }

    pub(super) fn owns(&self, packet: &Packet) -> bool {
        packet.header.dst_port == self.port && packet.header.src_port == self.host_port
    }

    /// The next packet from the device, which must be for this socket, and no
    /// more data than it has room for.
    pub(super) fn receive(&mut self, driver: &mut Driver) -> Packet {
        let packet = driver.receive();
        self.learn(&packet);
        packet
    }

    /// The next packet must be data: which.
    pub(super) fn read(&mut self, driver: &mut Driver) -> Vec<u8> {
        let packet = self.receive(driver);
        assert_eq!(packet.op(), Op::ReadWrite);
        self.fwd_cnt += packet.header.len;
        packet.data
    }

    /// The next packet must be a shutdown: its flags.
    pub(super) fn read_shutdown(&mut self, driver: &mut Driver) -> u32 {
        let packet = self.receive(driver);
        assert_eq!(packet.op(), Op::Shutdown);
        packet.header.flags
    }
}

/// A connection that the guest has asked for: both ends.
pub(super) fn connect_to_host(driver: &mut Driver, port: u32) -> (Socket, UnixStream) {
    let listener = driver.listen(1024);
    let pair = connect_through(driver, &listener, port);
    std::fs::remove_file(driver.directory.path().join("vsock_1024")).unwrap();
    pair
}

/// The same, with a listener on port 1024 that is there already.
pub(super) fn connect_through(
    driver: &mut Driver,
    listener: &UnixListener,
    port: u32,
) -> (Socket, UnixStream) {
    let mut socket = Socket::new(port, 1024);
    socket.send(driver, Op::Request);
    assert_eq!(socket.receive(driver).op(), Op::Response);
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    (socket, stream)
}

/// A connection that a program on the host has asked for: both ends.
pub(super) fn connect_to_guest(driver: &mut Driver, port: u32) -> (Socket, UnixStream) {
    let mut stream = driver.dial();
    std::io::Write::write_all(&mut stream, format!("CONNECT {port}\n").as_bytes()).unwrap();
    let request = driver.receive();
    assert_eq!(request.op(), Op::Request);
    assert_eq!(request.header.dst_port, port);
    let mut socket = Socket::new(port, request.header.src_port);
    socket.learn(&request);
    socket.send(driver, Op::Response);
    let expected = format!("OK {}\n", socket.host_port);
    assert_eq!(read_now(&mut stream), expected.as_bytes());
    (socket, stream)
}

/// What can be read at the moment.
pub(super) fn read_now(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    match stream.read(&mut bytes) {
        Ok(count) => {
            assert!(count > 0, "unexpected end");
            bytes.truncate(count);
            bytes
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

/// Whether the stream has ended, all of it being read.
pub(super) fn is_at_end(stream: &mut UnixStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

/// Bytes that are easy to recognise.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}
