//! One direction of a stream.

use std::os::fd::AsFd;

use rustix::io::Errno;

/// One direction: bytes that were read and not yet written, and whether more
/// will come.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) pending: Vec<u8>,
    written: usize,
    pub(super) source_open: bool,
}

/// What became of an attempt to move bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// As far as possible for now.
    Some,
    /// The sink takes no more, ever.
    SinkClosed,
}

impl Flow {
    pub(super) fn new(pending: Vec<u8>, source_open: bool) -> Self {
        Self {
            pending,
            written: 0,
            source_open,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written == self.pending.len()
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.is_empty() && !self.source_open
    }

    pub(super) fn wants_to_read(&self) -> bool {
        self.is_empty() && self.source_open
    }

    /// Writes what is pending or, if nothing is, `fresh`, and keeps the rest.
    pub(super) fn write(&mut self, sink: impl AsFd, fresh: &[u8]) -> Moved {
        let pending = if self.is_empty() {
            fresh
        } else {
            &self.pending[self.written..]
        };
        let Ok(n) = write_some(sink, pending) else {
            return Moved::SinkClosed;
        };
        if self.is_empty() {
            (self.pending, self.written) = (fresh[n..].to_vec(), 0);
        } else {
            self.written += n;
        }
        if self.is_empty() {
            // Given back: most streams are idle most of the time.
            self.pending = Vec::new();
            self.written = 0;
        }
        Moved::Some
    }

    /// Gives up: nothing is pending, and nothing will come.
    pub(super) fn close(&mut self) {
        *self = Self::default();
    }
}

/// As many bytes as a sink takes now, which may be none.
fn write_some(sink: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match rustix::io::write(sink, bytes) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        other => other,
    }
}

/// What a source had.
pub(super) enum Read {
    Bytes(usize),
    Nothing,
    End,
}

pub(super) fn read_some(source: impl AsFd, buffer: &mut [u8]) -> Read {
    match rustix::io::read(source, buffer) {
        Ok(0) => Read::End,
        Ok(n) => Read::Bytes(n),
        Err(Errno::AGAIN | Errno::INTR) => Read::Nothing,
        // A terminal says so (EIO) when no process has it open any more.
        Err(_) => Read::End,
    }
}
