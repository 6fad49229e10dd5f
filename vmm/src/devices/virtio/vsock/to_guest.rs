//! The direction of a connection from the host to the guest.

use std::io;

use super::buffer::GuestBytes;
use super::credit::SendCredit;
use super::packet::Header;
use super::stream::Stream;

/// Brings what the host's stream has to the guest.
#[derive(Debug)]
pub(super) struct ToGuest {
    state: State,
    credit: SendCredit,
    /// Whether there may be something to read: until the stream denies it.
    readable: bool,
    /// Whether the guest was asked for credit since it ran out.
    credit_requested: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The host's program will not write any more, and all was sent.
    Ended,
    /// The guest does not receive any more.
    Refused,
}

/// What reading from the stream brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes.
    Data(u32),
    /// Nothing now.
    Nothing,
    /// Nothing, ever again.
    End,
    /// The same, because the host's program is gone: it does not read either.
    Broken,
}

impl ToGuest {
    pub(super) fn new() -> Self {
        Self {
            state: State::Open,
            credit: SendCredit::default(),
            readable: true,
            credit_requested: false,
        }
    }

    /// Takes over what a packet of the guest tells about its buffer.
    pub(super) fn update_credit(&mut self, header: &Header) {
        self.credit.update(header.buf_alloc, header.fwd_cnt);
        if self.credit.available() > 0 {
            self.credit_requested = false;
        }
    }

    /// There may be something to read.
    pub(super) fn set_readable(&mut self) {
        self.readable = true;
    }

    /// Whether [`read`](Self::read) is worth a call.
    pub(super) fn may_read(&self) -> bool {
        self.wants_to_read() && self.credit.available() > 0
    }

    /// Reads what the stream has, as far as the guest can take it.
    pub(super) fn read(&mut self, room: &GuestBytes<'_>, stream: &mut impl Stream) -> Read {
        let limit = self.credit.available() as usize;
        match room.fill_from(stream, limit) {
            Ok(0) => {
                self.state = State::Ended;
                Read::End
            }
            Ok(len) => {
                self.credit.send(len as u32);
                Read::Data(len as u32)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Read::Nothing
            }
            Err(_) => {
                self.state = State::Ended;
                Read::Broken
            }
        }
    }

    /// Whether to ask the guest for credit now: once, for it tells of new
    /// credit by itself, too.
    pub(super) fn credit_request_is_due(&self) -> bool {
        self.wants_to_read() && self.credit.available() == 0 && !self.credit_requested
    }

    /// The guest is asked for credit.
    pub(super) fn set_credit_requested(&mut self) {
        self.credit_requested = true;
    }

    /// Whether the guest should hear that there is no more.
    pub(super) fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether the guest does not receive any more.
    pub(super) fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    /// The guest does not receive any more.
    pub(super) fn refuse(&mut self, stream: &mut impl Stream) {
        if self.state != State::Refused {
            self.state = State::Refused;
            stream.shutdown_read();
        }
    }

    fn wants_to_read(&self) -> bool {
        self.state == State::Open && self.readable
    }
}
