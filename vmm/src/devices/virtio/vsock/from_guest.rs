//! The direction of a connection from the guest to the host.

use std::io;

use super::backlog::Backlog;
use super::buffer::GuestBytes;
use super::connection::Violation;
use super::credit::ReceiveCredit;
use super::stream::Stream;

/// Brings what the guest sends to the host's stream.
#[derive(Debug, Default)]
pub(super) struct FromGuest {
    state: State,
    backlog: Backlog,
    credit: ReceiveCredit,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
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

impl FromGuest {
    /// Our receive buffer.
    pub(super) fn credit(&self) -> &ReceiveCredit {
        &self.credit
    }

    /// The `fwd_cnt` for a packet that is about to go to the guest.
    pub(super) fn tell_credit(&mut self) -> u32 {
        self.credit.tell()
    }

    /// Bytes that the stream could not take yet.
    pub(super) fn backlog_len(&self) -> usize {
        self.backlog.len()
    }

    /// Whether the guest should hear that nobody will read what it sends.
    pub(super) fn is_refused(&self) -> bool {
        let refused = State::Refused {
            guest_is_done: false,
        };
        self.state == refused
    }

    /// Whether the guest will send no more, and the host has all of it or does
    /// not want it.
    pub(super) fn is_over(&self) -> bool {
        match self.state {
            State::Open | State::Ending => false,
            State::Ended => true,
            State::Refused { guest_is_done } => guest_is_done,
        }
    }

    /// Data from the guest.
    pub(super) fn receive(
        &mut self,
        payload: &GuestBytes<'_>,
        stream: &mut impl Stream,
    ) -> Result<(), Violation> {
        let len = payload.len() as u32;
        self.credit.receive(len)?;
        match self.state {
            State::Open if self.backlog.is_empty() => self.write_through(payload, stream),
            State::Open => self.backlog.append(payload, 0),
            // The guest sent it before it could know.
            State::Refused {
                guest_is_done: false,
            } => self.credit.forward(len),
            _ => return Err(Violation::DataAfterEnd),
        }
        Ok(())
    }

    /// The guest will not send any more.
    pub(super) fn end(&mut self, stream: &mut impl Stream) {
        self.state = match self.state {
            State::Open | State::Ending => State::Ending,
            State::Ended => State::Ended,
            State::Refused { .. } => State::Refused {
                guest_is_done: true,
            },
        };
        self.end_stream_if_drained(stream);
    }

    /// The stream may take more of the backlog.
    pub(super) fn write_backlog(&mut self, stream: &mut impl Stream) {
        while !self.backlog.is_empty() {
            match self.backlog.write_to(stream) {
                Ok(written) => self.credit.forward(written as u32),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.refuse(stream),
            }
        }
        self.end_stream_if_drained(stream);
    }

    /// The host's program does not read any more.
    pub(super) fn refuse(&mut self, stream: &mut impl Stream) {
        if !matches!(self.state, State::Open | State::Ending) {
            return;
        }
        self.credit.forward(self.backlog.len() as u32);
        self.backlog.clear();
        self.state = State::Refused {
            guest_is_done: self.state == State::Ending,
        };
        stream.shutdown_write();
    }

    /// Writes data straight from guest memory, and keeps what is left over.
    fn write_through(&mut self, payload: &GuestBytes<'_>, stream: &mut impl Stream) {
        let written = match payload.drain_to(stream) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.credit.forward(payload.len() as u32);
                return self.refuse(stream);
            }
        };
        self.credit.forward(written as u32);
        if written < payload.len() {
            self.backlog.append(payload, written);
        }
    }

    fn end_stream_if_drained(&mut self, stream: &mut impl Stream) {
        if self.state == State::Ending && self.backlog.is_empty() {
            self.state = State::Ended;
            stream.shutdown_write();
        }
    }
}
