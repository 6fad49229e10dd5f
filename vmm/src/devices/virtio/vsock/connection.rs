//! One stream between a program in the guest and one on the host.
//!
//! Each direction ends on its own: what one side has written before it shut
//! down or closed its end always arrives at the other.

use super::buffer::{GuestBytes, TxPacket};
use super::credit::{CreditExceeded, RECEIVE_BUFFER};
use super::from_guest::FromGuest;
use super::handshake;
use super::packet::{Header, Op, Shutdown};
use super::stream::{HangUp, Readiness, Stream};
use super::to_guest::{Read, ToGuest};

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

/// State of a connection, and the host's end of it.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    phase: Phase,
    from_guest: FromGuest,
    to_guest: ToGuest,
    /// What the guest was told that we are done with.
    told: Shutdown,
    /// Whether the guest has asked for our buffer space.
    credit_requested: bool,
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
        connection.to_guest.update_credit(request);
        connection
    }

    fn new(stream: S, phase: Phase) -> Self {
        Self {
            stream,
            phase,
            from_guest: FromGuest::default(),
            to_guest: ToGuest::new(),
            told: Shutdown::default(),
            credit_requested: false,
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

    /// Bytes from the guest that wait until the stream can be written to.
    pub(super) fn backlog_len(&self) -> usize {
        self.from_guest.backlog_len()
    }

    /// What is to be done with the connection, after any other method.
    pub(super) fn fate(&self) -> Fate {
        let host_is_done = self.to_guest.is_ended() && self.told.send;
        let to_guest_is_over = host_is_done || self.to_guest.is_refused();
        match self.phase {
            Phase::Orphaned if self.backlog_len() == 0 => Fate::Forgotten,
            Phase::Orphaned => Fate::Alive,
            _ if self.from_guest.is_over() && to_guest_is_over => Fate::Finished,
            _ => Fate::Alive,
        }
    }

    /// Takes a packet of the guest, other than a request or a reset.
    pub(super) fn handle(&mut self, packet: &TxPacket<'_>) -> Result<(), Violation> {
        let header = &packet.header;
        self.to_guest.update_credit(header);
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
            (Some(Op::ReadWrite), Phase::Established) => {
                self.from_guest.receive(&packet.payload, &mut self.stream)?;
            }
            (Some(Op::Shutdown), Phase::Accepting | Phase::Established) => {
                self.shut_down(Shutdown::from_flags(header.flags));
            }
            (Some(Op::CreditUpdate), _) => {}
            (Some(Op::CreditRequest), _) => self.credit_requested = true,
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
        if readiness.readable {
            self.to_guest.set_readable();
        }
        if readiness.hang_up == HangUp::Both {
            self.from_guest.refuse(&mut self.stream);
        } else if readiness.writable {
            self.from_guest.write_backlog(&mut self.stream);
        }
    }

    /// Whether [`next_packet`](Self::next_packet) is worth a call.
    pub(super) fn has_packet(&self) -> bool {
        match self.phase {
            Phase::Requesting { sent, .. } => !sent,
            Phase::Accepting => true,
            Phase::Established => {
                self.to_guest.may_read()
                    || self.shutdown_due() != self.told
                    || self.credit_update_is_due()
                    || self.to_guest.credit_request_is_due()
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
        if self.to_guest.may_read() {
            match self.to_guest.read(room, &mut self.stream) {
                Read::Data(len) => return Some(self.outgoing(Op::ReadWrite, 0, len)),
                Read::Broken => self.from_guest.refuse(&mut self.stream),
                Read::Nothing | Read::End => {}
            }
        }
        let shutdown = self.shutdown_due();
        if shutdown != self.told {
            self.told = shutdown;
            return Some(self.outgoing(Op::Shutdown, shutdown.flags(), 0));
        }
        if self.credit_update_is_due() {
            return Some(self.outgoing(Op::CreditUpdate, 0, 0));
        }
        if self.to_guest.credit_request_is_due() {
            self.to_guest.set_credit_requested();
            return Some(self.outgoing(Op::CreditRequest, 0, 0));
        }
        None
    }

    /// Completes a packet: each tells the guest how much it may send.
    fn outgoing(&mut self, op: Op, flags: u32, len: u32) -> Outgoing {
        self.credit_requested = false;
        Outgoing {
            op,
            flags,
            len,
            buf_alloc: RECEIVE_BUFFER,
            fwd_cnt: self.from_guest.tell_credit(),
        }
    }

    /// The guest has accepted: so the program on the host is told.
    fn establish(&mut self, host_port: u32) {
        self.phase = Phase::Established;
        let acceptance = handshake::acceptance(host_port);
        // A stream that was never written to has room, unless it is closed.
        if self.stream.write_all(acceptance.as_bytes()).is_err() {
            self.from_guest.refuse(&mut self.stream);
        }
    }

    /// The guest will not receive or send any more.
    fn shut_down(&mut self, shutdown: Shutdown) {
        if shutdown.receive {
            self.to_guest.refuse(&mut self.stream);
        }
        if shutdown.send {
            self.from_guest.end(&mut self.stream);
        }
    }

    /// What the guest should know that we are done with.
    fn shutdown_due(&self) -> Shutdown {
        Shutdown {
            receive: self.told.receive || self.from_guest.is_refused(),
            send: self.told.send || self.to_guest.is_ended(),
        }
    }

    fn credit_update_is_due(&self) -> bool {
        self.credit_requested || self.from_guest.credit().update_is_due()
    }
}
