//! Guests that mean harm.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use proptest::prelude::*;

use super::driver::{Buffer, Driver, Setup, Socket, connect_to_host, is_at_end, pattern};
use crate::devices::virtio::vsock::packet::{HEADER_SIZE, Header, Op};

/// A buffer in the middle of the guest's memory.
fn buffer(len: u32, writable: bool) -> Buffer {
    Buffer {
        address: 0x20_0000,
        len,
        writable,
    }
}

fn fails(for_rx: bool, buffers: &[Buffer]) {
    let mut driver = Driver::with(Setup {
        rx_buffers: if for_rx { 2 } else { 16 },
        event_idx: false,
    });
    let (socket, mut stream) = connect_to_host(&mut driver, 5000);
    assert!(!driver.interrupt.needs_reset());
    if for_rx {
        // It is the next that the device finds, with something to send.
        driver.refill = false;
        driver.take_rx_buffers();
        driver.offer_raw(true, buffers);
        driver.try_send(socket.header(Op::CreditRequest), &[]);
    } else {
        driver.offer_raw(false, buffers);
    }
    driver.run();
    assert!(driver.interrupt.needs_reset(), "{buffers:?}");
    assert!(is_at_end(&mut stream));
    // Deaf from now on.
    driver.try_send(socket.header(Op::Request), &[]);
    driver.assert_no_packet();
    // Until it is reset.
    let mut driver = driver.reset();
    connect_to_host(&mut driver, 5000);
}

#[test]
fn bad_transmit_chains_need_a_reset() {
    let header = HEADER_SIZE as u32;
    fails(false, &[buffer(header, true)]);
    fails(false, &[buffer(header - 1, false)]);
    fails(false, &[buffer(0, false)]);
    fails(false, &[buffer(header, false), buffer(10, true)]);
    fails(false, &[buffer(1, false); 65]);
    let outside = Buffer {
        address: 0x100_0000 - 10,
        ..buffer(header, false)
    };
    fails(false, &[outside]);
    let overflowing = Buffer {
        address: u64::MAX - 10,
        ..buffer(header, false)
    };
    fails(false, &[overflowing]);
}

#[test]
fn bad_receive_chains_need_a_reset() {
    let header = HEADER_SIZE as u32;
    fails(true, &[buffer(header + 1, false)]);
    // No room for data: nothing could ever be sent.
    fails(true, &[buffer(header, true)]);
    fails(true, &[buffer(header, true), buffer(1, false)]);
}

#[test]
fn payload_that_is_not_there_needs_a_reset() {
    for len in [11, 1 << 16, 1 << 20, u32::MAX] {
        let mut driver = Driver::new();
        let header = Header {
            len,
            ..Socket::new(5000, 1024).header(Op::ReadWrite)
        };
        let address = 0x20_0000;
        driver.write_memory(address, &header.to_bytes());
        driver.offer_raw(
            false,
            &[Buffer {
                address,
                len: HEADER_SIZE as u32 + 10,
                writable: false,
            }],
        );
        driver.run();
        assert!(driver.interrupt.needs_reset());
    }
}

#[test]
fn payload_beyond_the_limit_needs_a_reset() {
    let mut driver = Driver::new();
    let header = Header {
        len: (1 << 16) + 1,
        ..Socket::new(5000, 1024).header(Op::ReadWrite)
    };
    let address = 0x20_0000;
    driver.write_memory(address, &header.to_bytes());
    driver.offer_raw(false, &[buffer(1 << 17, false)]);
    driver.run();
    assert!(driver.interrupt.needs_reset());
}

#[test]
fn more_chains_than_the_ring_holds_need_a_reset() {
    let mut driver = Driver::new();
    driver.announce_chains(129);
    driver.run();
    assert!(driver.interrupt.needs_reset());
}

#[test]
fn unknown_operations_are_reset() {
    for op in [0, 8, u16::MAX] {
        let mut driver = Driver::new();
        let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
        let header = Header {
            op,
            ..socket.header(Op::Request)
        };
        driver.send(header, &[]);
        assert_eq!(socket.receive(&mut driver).op(), Op::Reset);
        assert!(is_at_end(&mut stream));
        // And without a connection, too.
        driver.send(header, &[]);
        assert_eq!(socket.receive(&mut driver).op(), Op::Reset);
        driver.assert_no_packet();
    }
}

#[test]
fn data_after_the_end_is_reset() {
    let mut driver = Driver::new();
    let (mut socket, mut stream) = connect_to_host(&mut driver, 5000);
    socket.shut_down(&mut driver, 2);
    socket.write(&mut driver, b"more");
    assert_eq!(socket.receive(&mut driver).op(), Op::Reset);
    assert!(is_at_end(&mut stream));
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let mut driver = Driver::new();
    driver.refill = false;
    driver.take_rx_buffers();
    let listener = driver.listen(1024);
    for port in 0..100 {
        let socket = Socket::new(port, 1024);
        socket.send(&mut driver, Op::Request);
        drop(listener.accept().unwrap());
        socket.send(&mut driver, Op::Reset);
        assert_eq!(driver.streams(), 0);
    }
}

#[test]
fn provoked_resets_pile_up_only_so_far() {
    let mut driver = Driver::with(Setup {
        rx_buffers: 1,
        event_idx: false,
    });
    driver.refill = false;
    driver.give_rx_buffers();
    let mut sent = 0;
    while driver.try_send(Socket::new(sent, 1024).header(Op::ReadWrite), &[]) {
        driver.run();
        sent += 1;
        assert!(sent < 1000, "no bound");
    }
    // With room for one, there is for one more.
    driver.give_rx_buffers();
    driver.run();
    assert!(driver.try_send(Socket::new(sent, 1024).header(Op::ReadWrite), &[]));
    sent += 1;
    // All of them come once there is room, and those that waited, too.
    driver.refill = true;
    driver.give_rx_buffers();
    driver.run();
    let ports: Vec<u32> = driver
        .inbox
        .iter()
        .map(|packet| packet.header.dst_port)
        .collect();
    assert_eq!(ports, (0..sent).collect::<Vec<_>>());
    driver.inbox.clear();
    connect_to_host(&mut driver, 5000);
}

/// Ports of the guest in [`any_traffic_leaves_nothing_behind`].
const GUEST_PORTS: u32 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The guest sends a packet on one of few connections.
    Packet {
        op: u16,
        guest: u32,
        host: usize,
        flags: u32,
        len: usize,
    },
    /// It tells what it likes of its buffer.
    Credit {
        guest: u32,
        host: usize,
        buf_alloc: u32,
        fwd_cnt: u32,
    },
    /// A program on the host connects.
    Dial {
        guest: u32,
    },
    /// One of those that are connected does something.
    Write {
        stream: usize,
        len: usize,
    },
    Read {
        stream: usize,
    },
    End {
        stream: usize,
    },
    Close {
        stream: usize,
    },
    /// The guest stops or starts to give receive buffers back.
    Refill(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let guest = 0..GUEST_PORTS;
    let host = 0usize..6;
    let stream = 0usize..6;
    prop_oneof![
        6 => (0u16..9, guest.clone(), host.clone(), 0u32..4, 0usize..9000).prop_map(
            |(op, guest, host, flags, len)| Step::Packet { op, guest, host, flags, len }
        ),
        2 => guest.clone().prop_map(|guest| Step::Packet { op: 1, guest, host: 0, flags: 0, len: 0 }),
        2 => (guest.clone(), host.clone()).prop_map(
            |(guest, host)| Step::Packet { op: 2, guest, host, flags: 0, len: 0 }
        ),
        1 => (guest.clone(), host, any::<u32>(), any::<u32>()).prop_map(
            |(guest, host, buf_alloc, fwd_cnt)| Step::Credit { guest, host, buf_alloc, fwd_cnt }
        ),
        3 => guest.prop_map(|guest| Step::Dial { guest }),
        3 => (stream.clone(), 1usize..40_000).prop_map(|(stream, len)| Step::Write { stream, len }),
        2 => stream.clone().prop_map(|stream| Step::Read { stream }),
        1 => stream.clone().prop_map(|stream| Step::End { stream }),
        1 => stream.prop_map(|stream| Step::Close { stream }),
        1 => any::<bool>().prop_map(Step::Refill),
    ]
}

/// A guest and programs on the host without any manners.
struct Traffic {
    driver: Driver,
    listener: UnixListener,
    streams: Vec<UnixStream>,
    /// Ports of the host that connections came from or go to.
    host_ports: Vec<u32>,
}

impl Traffic {
    fn new() -> Self {
        let driver = Driver::new();
        let listener = driver.listen(1024);
        listener.set_nonblocking(true).unwrap();
        Self {
            driver,
            listener,
            streams: Vec::new(),
            host_ports: vec![1024, 1025],
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Packet {
                op,
                guest,
                host,
                flags,
                len,
            } => {
                let header = Header {
                    op,
                    flags,
                    ..self.header(guest, host)
                };
                self.driver.try_send(header, &pattern(len));
            }
            Step::Credit {
                guest,
                host,
                buf_alloc,
                fwd_cnt,
            } => {
                let header = Header {
                    buf_alloc,
                    fwd_cnt,
                    ..self.header(guest, host)
                };
                self.driver.try_send(header, &[]);
            }
            Step::Dial { guest } => {
                let mut stream = self.driver.dial();
                writeln!(stream, "CONNECT {guest}").unwrap();
                self.streams.push(stream);
            }
            Step::Write { stream, len } => {
                if let Some(stream) = self.streams.get_mut(stream) {
                    let _ = stream.write(&pattern(len));
                }
            }
            Step::Read { stream } => {
                if let Some(stream) = self.streams.get_mut(stream) {
                    let _ = stream.read(&mut [0; 8000]);
                }
            }
            Step::End { stream } => {
                if let Some(stream) = self.streams.get_mut(stream) {
                    let _ = stream.shutdown(Shutdown::Write);
                }
            }
            Step::Close { stream } => {
                if stream < self.streams.len() {
                    self.streams.swap_remove(stream);
                }
            }
            Step::Refill(refill) => self.refill(refill),
        }
        self.work();
    }

    fn header(&self, guest: u32, host: usize) -> Header {
        let host_port = self.host_ports[host % self.host_ports.len()];
        Socket::new(guest, host_port).header(Op::CreditUpdate)
    }

    fn refill(&mut self, refill: bool) {
        self.driver.refill = refill;
        if refill {
            self.driver.give_rx_buffers();
        }
    }

    fn work(&mut self) {
        self.driver.run();
        assert!(!self.driver.interrupt.needs_reset());
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            self.streams.push(stream);
        }
        for packet in self.driver.inbox.drain(..) {
            if packet.op() == Op::Request {
                self.host_ports.push(packet.header.src_port);
            }
        }
    }

    /// All programs close their ends, and the guest resets what it has.
    fn end(mut self) -> usize {
        self.streams.clear();
        self.refill(true);
        self.work();
        for host_port in std::mem::take(&mut self.host_ports) {
            for guest in 0..GUEST_PORTS {
                Socket::new(guest, host_port).send(&mut self.driver, Op::Reset);
            }
        }
        self.driver.streams()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_traffic_leaves_nothing_behind(steps in prop::collection::vec(step(), 0..80)) {
        let mut traffic = Traffic::new();
        for step in steps {
            traffic.take(step);
        }
        prop_assert_eq!(traffic.end(), 0);
    }
}
