//! One stream between a program in the guest and one on the host.
//!
//! Each direction ends on its own: what one side has written before it shut
//! down or closed its end always arrives at the other.

use std::io;

use vm_memory::{ReadVolatile, WriteVolatile};

use super::backlog::Backlog;
use super::buffer::{GuestBytes, TxPacket};
use super::credit::{CreditExceeded, RECEIVE_BUFFER, ReceiveCredit, SendCredit};
use super::handshake;
use super::packet::{Header, Op, Shutdown};

/// The host's end of a connection: a non-blocking byte stream.
pub(super) trait Stream: ReadVolatile + WriteVolatile + io::Write {
    /// Ends what the host's program can write, and discards what it has
    /// written: it then sees a plain end of the stream, and no reset, when the
    /// stream is closed.
    fn shutdown_read(&mut self);

    /// Ends what the host's program can read.
    fn shutdown_write(&mut self);
}

/// What has become possible on a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Readiness {
    /// There may be something to read, or the end.
    pub(super) readable: bool,
    /// It may take more.
    pub(super) writable: bool,
    /// What the host's program is done with.
    pub(super) hang_up: HangUp,
}

/// What the host's program is done with, as far as the stream tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HangUp {
    /// Perhaps nothing.
    #[default]
    None,
    /// It will not write any more.
    Writing,
    /// Nor will it read.
    Both,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Alive,
    /// Both directions have ended: a reset tells the guest so.
    Finished,
    /// Nobody knows of it any more.
    Forgotten,
}

/// A packet of the guest that does not fit the state of its connection.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    /// The operation makes no sense now, or never does.
    #[error("unexpected operation {op}")]
    UnexpectedOp {
        /// As it was in the header.
        op: u16,
    },
    /// Data after the guest said that there would be none.
    #[error("data after the end")]
    DataAfterEnd,
    /// Data beyond the space that the guest was told of.
    #[error("too much data")]
    TooMuchData(#[from] CreditExceeded),
}

/// The part of a packet to the guest that a connection decides on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) op: Op,
    pub(super) flags: u32,
    /// Bytes of payload that have been put into the buffer.
    pub(super) len: u32,
    pub(super) buf_alloc: u32,
    pub(super) fwd_cnt: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The guest is asked for a connection to one of its ports.
    Requesting { host_port: u32, sent: bool },
    /// The guest has asked, and is to hear that it has the connection.
    Accepting,
    /// Data flows.
    Established,
    /// The guest has closed the connection; the host's stream has still to
    /// take what the guest sent before.
    Orphaned,
}

/// The direction from the guest to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FromGuest {
    Open,
    /// The guest will not send any more, but there is a backlog.
    Ending,
    /// All is written, and the stream told that it was all.
    Ended,
    /// The host's program does not read any more.
    Refused {
        /// Whether the guest has said that it will not send any more.
        guest_is_done: bool,
    },
}

/// The direction from the host to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToGuest {
    Open,
    /// The host's program will not write any more, and all was sent.
    Ended,
    /// The guest does not receive any more.
    Refused,
}

/// State of a connection, and the host's end of it.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    phase: Phase,
    from_guest: FromGuest,
    to_guest: ToGuest,
    backlog: Backlog,
    receive_credit: ReceiveCredit,
    send_credit: SendCredit,
    /// Whether the stream has not said yet that it has nothing to read.
    readable: bool,
    /// What the guest was told that we are done with.
    told: Shutdown,
    /// Whether the guest has asked for our buffer space.
    credit_update_requested: bool,
    /// Whether we have asked for the guest's since it ran out.
    credit_request_sent: bool,
}

impl<S: Stream> Connection<S> {
    /// A connection that a program on the host asks for. It is told
    /// `host_port` when it gets it.
    pub(super) fn requesting(stream: S, host_port: u32) -> Self {
        let sent = false;
        Self::new(stream, Phase::Requesting { host_port, sent })
    }

    /// A connection that the guest asked for with `request`.
    pub(super) fn accepting(stream: S, request: &Header) -> Self {
        let mut connection = Self::new(stream, Phase::Accepting);
        connection.update_send_credit(request);
        connection
    }

    fn new(stream: S, phase: Phase) -> Self {
        Self {
            stream,
            phase,
            from_guest: FromGuest::Open,
            to_guest: ToGuest::Open,
            backlog: Backlog::default(),
            receive_credit: ReceiveCredit::default(),
            send_credit: SendCredit::default(),
            readable: true,
            told: Shutdown::default(),
            credit_update_requested: false,
            credit_request_sent: false,
        }
    }

    /// The host's end.
    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    #[cfg(test)]
    pub(super) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    #[cfg(test)]
    pub(super) fn backlog_len(&self) -> usize {
        self.backlog.len()
    }

    /// Whether to tell the connection when the stream takes more.
    pub(super) fn waits_to_write(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// What is to be done with the connection, after any other method.
    pub(super) fn fate(&self) -> Fate {
        let from_guest_ended = matches!(
            self.from_guest,
            FromGuest::Ended
                | FromGuest::Refused {
                    guest_is_done: true
                }
        );
        let to_guest_ended = match self.to_guest {
            ToGuest::Open => false,
            ToGuest::Ended => self.told.send,
            ToGuest::Refused => true,
        };
        match self.phase {
            Phase::Orphaned if self.backlog.is_empty() => Fate::Forgotten,
            Phase::Orphaned => Fate::Alive,
            _ if from_guest_ended && to_guest_ended => Fate::Finished,
            _ => Fate::Alive,
        }
    }

    /// Takes a packet of the guest, other than a request or a reset.
    pub(super) fn handle(&mut self, packet: &TxPacket<'_>) -> Result<(), Violation> {
        let header = &packet.header;
        self.update_send_credit(header);
        match (Op::from_u16(header.op), self.phase) {
            (
                Some(Op::Response),
                Phase::Requesting {
                    host_port,
                    sent: true,
                },
            ) => {
                self.establish(host_port);
            }
            (Some(Op::ReadWrite), Phase::Established) => self.receive(&packet.payload)?,
            (Some(Op::Shutdown), Phase::Accepting | Phase::Established) => {
                self.shut_down(Shutdown::from_flags(header.flags));
            }
            (Some(Op::CreditUpdate), _) => {}
            (Some(Op::CreditRequest), _) => self.credit_update_requested = true,
            _ => return Err(Violation::UnexpectedOp { op: header.op }),
        }
        Ok(())
    }

    /// The guest has reset the connection. What it sent before is still
    /// written: a guest that has waited too long for a slow reader to let it
    /// close, does this.
    pub(super) fn reset(&mut self) {
        self.phase = Phase::Orphaned;
    }

    /// Something has become possible on the stream.
    pub(super) fn ready(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        // A stream that we have shut down ourselves says the same.
        if readiness.hang_up == HangUp::Both
            && matches!(self.from_guest, FromGuest::Open | FromGuest::Ending)
        {
            self.refuse_data();
        } else if readiness.writable {
            self.write_backlog();
        }
    }

    /// Whether [`next_packet`](Self::next_packet) is worth a call.
    pub(super) fn has_packet(&self) -> bool {
        match self.phase {
            Phase::Requesting { sent, .. } => !sent,
            Phase::Accepting => true,
            Phase::Established => {
                self.may_send_data()
                    || self.shutdown_due() != self.told
                    || self.credit_update_due()
                    || self.credit_request_due()
            }
            Phase::Orphaned => false,
        }
    }

    /// The next packet to the guest. Data goes from the stream to `room`.
    pub(super) fn next_packet(&mut self, room: &GuestBytes<'_>) -> Option<Outgoing> {
        match &mut self.phase {
            Phase::Requesting { sent, .. } if !*sent => {
                *sent = true;
                Some(self.outgoing(Op::Request, 0, 0))
            }
            Phase::Accepting => {
                self.phase = Phase::Established;
                Some(self.outgoing(Op::Response, 0, 0))
            }
            Phase::Established => self.next_established_packet(room),
            Phase::Requesting { .. } | Phase::Orphaned => None,
        }
    }

    fn next_established_packet(&mut self, room: &GuestBytes<'_>) -> Option<Outgoing> {
        if self.may_send_data()
            && let Some(len) = self.read_stream(room)
        {
            return Some(self.outgoing(Op::ReadWrite, 0, len));
        }
        let shutdown = self.shutdown_due();
        if shutdown != self.told {
            self.told = shutdown;
            return Some(self.outgoing(Op::Shutdown, shutdown.flags(), 0));
        }
        if self.credit_update_due() {
            return Some(self.outgoing(Op::CreditUpdate, 0, 0));
        }
        if self.credit_request_due() {
            self.credit_request_sent = true;
            return Some(self.outgoing(Op::CreditRequest, 0, 0));
        }
        None
    }

    /// Completes a packet: each tells the guest how much it may send.
    fn outgoing(&mut self, op: Op, flags: u32, len: u32) -> Outgoing {
        self.credit_update_requested = false;
        Outgoing {
            op,
            flags,
            len,
            buf_alloc: RECEIVE_BUFFER,
            fwd_cnt: self.receive_credit.tell(),
        }
    }

    fn update_send_credit(&mut self, header: &Header) {
        self.send_credit.update(header.buf_alloc, header.fwd_cnt);
        if self.send_credit.available() > 0 {
            self.credit_request_sent = false;
        }
    }

    /// The guest has accepted: so the program on the host is told.
    fn establish(&mut self, host_port: u32) {
        self.phase = Phase::Established;
        let acceptance = handshake::acceptance(host_port);
        // A stream that was never written to has room, unless it is closed.
        if self.stream.write_all(acceptance.as_bytes()).is_err() {
            self.refuse_data();
        }
    }

    /// Data from the guest.
    fn receive(&mut self, payload: &GuestBytes<'_>) -> Result<(), Violation> {
        let len = payload.len() as u32;
        self.receive_credit.receive(len)?;
        match self.from_guest {
            FromGuest::Open if self.backlog.is_empty() => self.write_through(payload),
            FromGuest::Open => self.backlog.append(payload, 0),
            // The guest sent it before it could know.
            FromGuest::Refused {
                guest_is_done: false,
            } => self.receive_credit.forward(len),
            _ => return Err(Violation::DataAfterEnd),
        }
        Ok(())
    }

    /// Writes data straight from guest memory, and keeps what is left over.
    fn write_through(&mut self, payload: &GuestBytes<'_>) {
        let written = match payload.drain_to(&mut self.stream) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.receive_credit.forward(payload.len() as u32);
                self.refuse_data();
                return;
            }
        };
        self.receive_credit.forward(written as u32);
        if written < payload.len() {
            self.backlog.append(payload, written);
        }
    }

    fn write_backlog(&mut self) {
        while !self.backlog.is_empty() {
            match self.backlog.write_to(&mut self.stream) {
                Ok(written) => self.receive_credit.forward(written as u32),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.refuse_data(),
            }
        }
        if self.from_guest == FromGuest::Ending {
            self.end_data();
        }
    }

    /// Everything from the guest is written.
    fn end_data(&mut self) {
        self.from_guest = FromGuest::Ended;
        self.stream.shutdown_write();
    }

    /// The host's program does not read any more.
    fn refuse_data(&mut self) {
        self.receive_credit.forward(self.backlog.len() as u32);
        self.backlog.clear();
        self.from_guest = FromGuest::Refused {
            guest_is_done: self.from_guest == FromGuest::Ending,
        };
        self.stream.shutdown_write();
    }

    /// The guest will not receive or send any more.
    fn shut_down(&mut self, shutdown: Shutdown) {
        if shutdown.receive && self.to_guest != ToGuest::Refused {
            self.to_guest = ToGuest::Refused;
            self.stream.shutdown_read();
        }
        if shutdown.send {
            match self.from_guest {
                FromGuest::Open if self.backlog.is_empty() => self.end_data(),
                FromGuest::Open => self.from_guest = FromGuest::Ending,
                FromGuest::Refused { .. } => {
                    self.from_guest = FromGuest::Refused {
                        guest_is_done: true,
                    };
                }
                FromGuest::Ending | FromGuest::Ended => {}
            }
        }
    }

    /// Reads what the stream has and the guest can take: bytes read, if any.
    fn read_stream(&mut self, room: &GuestBytes<'_>) -> Option<u32> {
        let limit = self.send_credit.available() as usize;
        match room.fill_from(&mut self.stream, limit) {
            Ok(0) => self.to_guest = ToGuest::Ended,
            Ok(len) => {
                self.send_credit.send(len as u32);
                return Some(len as u32);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            Err(_) => {
                // The program is gone: of what it wrote, all was read.
                self.to_guest = ToGuest::Ended;
                if matches!(self.from_guest, FromGuest::Open | FromGuest::Ending) {
                    self.refuse_data();
                }
            }
        }
        None
    }

    fn wants_to_send_data(&self) -> bool {
        self.to_guest == ToGuest::Open && self.readable
    }

    fn may_send_data(&self) -> bool {
        self.wants_to_send_data() && self.send_credit.available() > 0
    }

    /// What the guest should know that we are done with.
    fn shutdown_due(&self) -> Shutdown {
        let refused = FromGuest::Refused {
            guest_is_done: false,
        };
        Shutdown {
            receive: self.told.receive || self.from_guest == refused,
            send: self.told.send || self.to_guest == ToGuest::Ended,
        }
    }

    fn credit_update_due(&self) -> bool {
        self.credit_update_requested || self.receive_credit.update_is_due()
    }

    fn credit_request_due(&self) -> bool {
        self.wants_to_send_data() && self.send_credit.available() == 0 && !self.credit_request_sent
    }
}
