//! The socket device, between a guest and programs on the host that send each
//! other what comes to their minds.
#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use arbitrary::Arbitrary;
use bulkhead_fuzz::input::Script;
use bulkhead_fuzz::open_files;
use bulkhead_fuzz::vsock::{Guest, Header, Packet, SERVED_PORT, accept, dial, op};
use libfuzzer_sys::fuzz_target;

/// Ports of the guest that connect are so few that they meet.
const GUEST_PORTS: u32 = 3;
/// Packets are for one of so many connections: they should meet, too.
const RECENT: usize = 4;
/// So many of the longest packets are more than a stream of the host's takes.
const BURST: usize = 16;

#[derive(Arbitrary, Debug)]
struct Input {
    event_idx: bool,
    steps: Script<Step>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    /// The guest asks for a connection.
    Connect { guest: u8 },
    /// It sends a packet, seldom many, on a connection, or after its end.
    Packet {
        connection: u8,
        op: u8,
        flags: u8,
        len: u16,
        cuts: [u8; 3],
        chance: u8,
    },
    /// It tells what it likes of its buffer.
    Credit {
        connection: u8,
        buf_alloc: u32,
        fwd_cnt: u32,
    },
    /// It sends to somebody else, or claims to be.
    Stray {
        src_cid: u64,
        dst_cid: u64,
        socket_type: u16,
        op: u16,
    },
    /// It stops or starts to give receive buffers back; it does, mostly.
    Refill { chance: u8 },
    /// It resets the device, once in a while.
    Reset { chance: u8 },
    /// A program on the host connects, and the guest accepts, mostly.
    Dial { guest: u8, chance: u8 },
    /// It writes to its stream,
    Write { stream: u8, len: u16 },
    /// reads from it,
    Read { stream: u8, len: u16 },
    /// says that it will write or read no more,
    End { stream: u8, write: bool },
    /// or closes it.
    Close { stream: u8 },
}

struct World {
    event_idx: bool,
    guest: Guest,
    streams: Vec<UnixStream>,
    /// Ports of guest and host of all connections that were asked for.
    connections: Vec<(u32, u32)>,
}

impl World {
    fn take(&mut self, step: Step) {
        match step {
            Step::Connect { guest } => {
                let ports = (u32::from(guest) % GUEST_PORTS, SERVED_PORT);
                self.connections.push(ports);
                self.send(op::REQUEST, ports);
            }
            Step::Packet {
                connection,
                op,
                flags,
                len,
                cuts,
                chance,
            } => {
                // With two operations that mean nothing.
                let op = u16::from(op) % (op::MAX + 2);
                let header = Header {
                    flags: u32::from(flags),
                    ..self.header(op, connection)
                };
                let data = vec![flags; usize::from(len)];
                for _ in 0..if chance < 16 { BURST } else { 1 } {
                    self.guest.send(header, &data, cuts);
                    self.guest.run();
                }
            }
            Step::Credit {
                connection,
                buf_alloc,
                fwd_cnt,
            } => {
                let header = Header {
                    buf_alloc,
                    fwd_cnt,
                    ..self.header(op::CREDIT_UPDATE, connection)
                };
                self.guest.send(header, &[], [0; 3]);
            }
            Step::Stray {
                src_cid,
                dst_cid,
                socket_type,
                op,
            } => {
                let header = Header {
                    src_cid,
                    dst_cid,
                    socket_type,
                    ..self.header(op, 0)
                };
                self.guest.send(header, &[], [0; 3]);
            }
            Step::Refill { chance } => self.guest.set_refill(chance >= 64),
            Step::Reset { chance } => {
                if chance < 16 {
                    self.guest = Guest::new(self.event_idx);
                }
            }
            Step::Dial { guest, chance } => self.dial(u32::from(guest), chance >= 64),
            Step::Write { stream, len } => {
                if let Some(stream) = self.stream(stream) {
                    let _ = stream.write(&vec![7; usize::from(len)]);
                }
            }
            Step::Read { stream, len } => {
                if let Some(stream) = self.stream(stream) {
                    let _ = stream.read(&mut vec![0; usize::from(len)]);
                }
            }
            Step::End { stream, write } => {
                let how = if write {
                    Shutdown::Write
                } else {
                    Shutdown::Read
                };
                if let Some(stream) = self.stream(stream) {
                    let _ = stream.shutdown(how);
                }
            }
            Step::Close { stream } => {
                if let Some(index) = usize::from(stream).checked_rem(self.streams.len()) {
                    self.streams.swap_remove(index);
                }
            }
        }
        self.work();
    }

    fn header(&self, op: u16, connection: u8) -> Header {
        let recent = &self.connections[self.connections.len().saturating_sub(RECENT)..];
        let (guest, host) = recent[usize::from(connection) % recent.len()];
        self.guest.header(op, guest, host)
    }

    fn send(&mut self, op: u16, (guest, host): (u32, u32)) {
        let header = self.guest.header(op, guest, host);
        self.guest.send(header, &[], [0; 3]);
        self.guest.run();
    }

    fn dial(&mut self, guest: u32, accept: bool) {
        let mut stream = dial();
        writeln!(stream, "CONNECT {guest}").unwrap();
        self.streams.push(stream);
        self.work();
        if let Some(&ports) = self.connections.last()
            && accept
        {
            self.send(op::RESPONSE, ports);
        }
    }

    fn stream(&mut self, index: u8) -> Option<&mut UnixStream> {
        let index = usize::from(index).checked_rem(self.streams.len())?;
        self.streams.get_mut(index)
    }

    fn work(&mut self) {
        self.guest.run();
        self.streams.extend(std::iter::from_fn(accept));
        for Packet { header, .. } in self.guest.inbox.drain(..) {
            if header.op == op::REQUEST {
                self.connections.push((header.dst_port, header.src_port));
            }
        }
    }

    /// All programs close their streams, and the guest resets its connections.
    fn end(&mut self) {
        self.streams.clear();
        self.guest.set_refill(true);
        self.work();
        for ports in std::mem::take(&mut self.connections) {
            self.send(op::RESET, ports);
        }
    }
}

fuzz_target!(|input: Input| {
    let Input { event_idx, steps } = input;
    let mut world = World {
        event_idx,
        guest: Guest::new(event_idx),
        streams: Vec::new(),
        // Nobody serves that one.
        connections: vec![(0, SERVED_PORT + 1)],
    };
    let before = open_files();
    for step in steps.0 {
        world.take(step);
    }
    world.end();
    assert_eq!(open_files(), before, "something was left behind");
});
