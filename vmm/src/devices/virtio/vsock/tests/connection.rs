//! The state of one connection, with a stream that does as it is told.

use std::collections::VecDeque;
use std::io;

use proptest::prelude::*;
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile};

use crate::devices::virtio::vsock::buffer::{GuestBytes, TxPacket};
use crate::devices::virtio::vsock::connection::{Connection, Fate, Outgoing, Violation};
use crate::devices::virtio::vsock::credit::RECEIVE_BUFFER;
use crate::devices::virtio::vsock::packet::{Header, Op};
use crate::devices::virtio::vsock::stream::{HangUp, Readiness, Stream};

/// A stream of the host.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)]
struct FakeStream {
    /// What the program has written and was not read yet.
    incoming: VecDeque<u8>,
    /// Whether that is all.
    ended: bool,
    /// How many bytes the stream takes before it blocks.
    room: usize,
    outgoing: Vec<u8>,
    /// Whether the program does not read any more.
    broken: bool,
    read_shut: bool,
    write_shut: bool,
}

impl ReadVolatile for FakeStream {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        buf: &mut VolatileSlice<B>,
    ) -> Result<usize, VolatileMemoryError> {
        assert!(!self.read_shut && !buf.is_empty());
        if self.incoming.is_empty() && !self.ended {
            return Err(VolatileMemoryError::IOError(
                io::ErrorKind::WouldBlock.into(),
            ));
        }
        let count = buf.len().min(self.incoming.len());
        let bytes: Vec<u8> = self.incoming.drain(..count).collect();
        (&bytes[..]).read_volatile(buf)
    }
}

impl WriteVolatile for FakeStream {
    fn write_volatile<B: BitmapSlice>(
        &mut self,
        buf: &VolatileSlice<B>,
    ) -> Result<usize, VolatileMemoryError> {
        let mut bytes = vec![0; buf.len()];
        (&mut bytes[..]).write_volatile(buf)?;
        io::Write::write(self, &bytes).map_err(VolatileMemoryError::IOError)
    }
}

impl io::Write for FakeStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken || self.write_shut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.room.min(bytes.len());
        self.room -= count;
        self.outgoing.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for FakeStream {
    fn shutdown_read(&mut self) {
        self.read_shut = true;
    }

    fn shutdown_write(&mut self) {
        self.write_shut = true;
    }
}

fn header(op: u16) -> Header {
    Header {
        op,
        buf_alloc: 1 << 20,
        ..Header::default()
    }
}

fn handle(
    connection: &mut Connection<FakeStream>,
    header: Header,
    data: &[u8],
) -> Result<(), Violation> {
    let mut data = data.to_vec();
    connection.handle(&TxPacket {
        header,
        payload: GuestBytes::from(VolatileSlice::from(&mut data[..])),
    })
}

fn next(connection: &mut Connection<FakeStream>) -> Option<(Outgoing, Vec<u8>)> {
    let mut room = vec![0; 4096];
    let buffer = GuestBytes::from(VolatileSlice::from(&mut room[..]));
    let packet = connection.next_packet(&buffer)?;
    room.truncate(packet.len as usize);
    Some((packet, room))
}

fn established(room: usize) -> Connection<FakeStream> {
    let stream = FakeStream {
        room,
        ..FakeStream::default()
    };
    let mut connection = Connection::accepting(stream, &header(Op::Request as u16));
    assert_eq!(next(&mut connection).unwrap().0.op, Op::Response);
    assert!(next(&mut connection).is_none());
    connection
}

#[test]
fn response_before_the_request_was_sent_is_a_violation() {
    let stream = FakeStream::default();
    let mut connection = Connection::requesting(stream, 7);
    let op = Op::Response as u16;
    assert_eq!(
        handle(&mut connection, header(op), &[]),
        Err(Violation::UnexpectedOp { op })
    );
}

#[test]
fn host_is_told_its_port_before_any_data() {
    let stream = FakeStream {
        room: 100,
        ..FakeStream::default()
    };
    let mut connection = Connection::requesting(stream, 77);
    assert_eq!(next(&mut connection).unwrap().0.op, Op::Request);
    assert!(!connection.has_packet());
    handle(&mut connection, header(Op::Response as u16), &[]).unwrap();
    handle(&mut connection, header(Op::ReadWrite as u16), b"hello").unwrap();
    assert_eq!(connection.stream().outgoing, b"OK 77\nhello");
}

#[test]
fn data_before_the_response_is_a_violation() {
    let mut connection = Connection::requesting(FakeStream::default(), 77);
    next(&mut connection).unwrap();
    let op = Op::ReadWrite as u16;
    assert_eq!(
        handle(&mut connection, header(op), &[1]),
        Err(Violation::UnexpectedOp { op })
    );
}

#[test]
fn what_the_stream_does_not_take_waits_in_order() {
    let mut connection = established(3);
    let op = Op::ReadWrite as u16;
    handle(&mut connection, header(op), b"abcde").unwrap();
    handle(&mut connection, header(op), b"fgh").unwrap();
    assert_eq!(connection.stream().outgoing, b"abc");
    assert_eq!(connection.backlog_len(), 5);
    connection.stream_mut().room = 100;
    connection.ready(Readiness {
        writable: true,
        ..Readiness::default()
    });
    assert_eq!(connection.stream().outgoing, b"abcdefgh");
    assert_eq!(connection.backlog_len(), 0);
}

#[test]
fn end_waits_for_the_backlog() {
    let mut connection = established(3);
    let op = Op::ReadWrite as u16;
    handle(&mut connection, header(op), b"abcde").unwrap();
    let end = Header {
        flags: 3,
        ..header(Op::Shutdown as u16)
    };
    handle(&mut connection, end, &[]).unwrap();
    assert_eq!(connection.fate(), Fate::Alive);
    assert!(connection.stream().read_shut && !connection.stream().write_shut);
    connection.stream_mut().room = 2;
    connection.ready(Readiness {
        writable: true,
        ..Readiness::default()
    });
    assert!(connection.stream().write_shut);
    assert_eq!(connection.fate(), Fate::Finished);
}

#[test]
fn reset_connection_is_kept_for_its_backlog_only() {
    let mut connection = established(0);
    connection.reset();
    assert_eq!(connection.fate(), Fate::Forgotten);

    let mut connection = established(0);
    handle(&mut connection, header(Op::ReadWrite as u16), &[1]).unwrap();
    connection.reset();
    assert_eq!(connection.fate(), Fate::Alive);
    assert!(!connection.has_packet());
    connection.ready(Readiness {
        hang_up: HangUp::Both,
        ..Readiness::default()
    });
    assert_eq!(connection.fate(), Fate::Forgotten);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The guest sends a packet.
    Packet { op: u16, flags: u32, len: usize },
    /// The guest tells what it likes of its buffer.
    Credit { buf_alloc: u32, fwd_cnt: u32 },
    /// There is room for a packet to the guest.
    Room,
    /// The program on the host writes.
    Write(usize),
    /// It reads.
    Read(usize),
    /// It will not write any more.
    End,
    /// It closes its end.
    Close,
    /// The guest resets the connection.
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u16..9, 0u32..4, 0usize..100_000)
            .prop_map(|(op, flags, len)| Step::Packet { op, flags, len }),
        4 => (1usize..70_000).prop_map(|len| Step::Packet { op: 5, flags: 0, len }),
        1 => any::<(u32, u32)>()
            .prop_map(|(buf_alloc, fwd_cnt)| Step::Credit { buf_alloc, fwd_cnt }),
        6 => Just(Step::Room),
        3 => (1usize..20_000).prop_map(Step::Write),
        3 => (1usize..200_000).prop_map(Step::Read),
        1 => Just(Step::End),
        1 => Just(Step::Close),
        1 => Just(Step::Reset),
    ]
}

/// A connection and what must be true of it.
struct Model {
    connection: Connection<FakeStream>,
    /// Data of the guest that was not refused.
    accepted: Vec<u8>,
    was_broken: bool,
}

impl Model {
    fn take(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Packet { op, flags, len } => {
                let data: Vec<u8> = (0..len)
                    .map(|index| (self.accepted.len() + index) as u8)
                    .collect();
                let header = Header {
                    flags,
                    ..header(op)
                };
                handle(&mut self.connection, header, &data)?;
                if op == Op::ReadWrite as u16 {
                    self.accepted.extend(data);
                }
            }
            Step::Credit { buf_alloc, fwd_cnt } => {
                let header = Header {
                    buf_alloc,
                    fwd_cnt,
                    ..header(Op::CreditUpdate as u16)
                };
                handle(&mut self.connection, header, &[])?;
            }
            Step::Room => {
                let expected = self.connection.has_packet();
                let got = next(&mut self.connection).is_some();
                assert!(expected || !got, "a packet out of nothing");
                assert!(got || !self.connection.has_packet(), "would spin");
            }
            Step::Write(len) => {
                let stream = self.connection.stream_mut();
                if !stream.ended && !stream.read_shut {
                    stream.incoming.extend(vec![7; len]);
                    self.happens(|_| {});
                }
            }
            Step::Read(room) => self.happens(|stream| stream.room = room),
            Step::End => self.happens(|stream| stream.ended = true),
            Step::Close => {
                self.was_broken = true;
                self.happens(|stream| {
                    stream.ended = true;
                    stream.broken = true;
                });
            }
            Step::Reset => self.connection.reset(),
        }
        Ok(())
    }

    fn happens(&mut self, change: impl FnOnce(&mut FakeStream)) {
        let stream = self.connection.stream_mut();
        change(stream);
        let readiness = Readiness {
            readable: true,
            writable: stream.room > 0,
            hang_up: if (stream.broken || stream.write_shut) && (stream.ended || stream.read_shut) {
                HangUp::Both
            } else if stream.ended {
                HangUp::Writing
            } else {
                HangUp::None
            },
        };
        self.connection.ready(readiness);
    }

    fn check(&self) {
        let stream = self.connection.stream();
        assert!(self.connection.backlog_len() <= RECEIVE_BUFFER as usize);
        // What arrives is what was sent, from the start, without a gap.
        assert!(self.accepted.starts_with(&stream.outgoing));
        if !self.was_broken {
            let arrived = stream.outgoing.len() + self.connection.backlog_len();
            assert_eq!(arrived, self.accepted.len());
            if stream.write_shut {
                assert_eq!(
                    stream.outgoing.len(),
                    self.accepted.len(),
                    "end before the end"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn any_sequence_keeps_to_the_bounds(steps in prop::collection::vec(step(), 0..60)) {
        let mut model = Model {
            connection: established(100_000),
            accepted: Vec::new(),
            was_broken: false,
        };
        for step in steps {
            if model.take(step).is_err() || model.connection.fate() != Fate::Alive {
                break;
            }
            model.check();
        }
    }
}
