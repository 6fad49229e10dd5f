//! What the guest has sent and the host's stream could not take yet.

use std::io;

use super::buffer::GuestBytes;

/// Bytes on their way from the guest to a stream of the host.
///
/// Credit bounds how many there are. Bytes that have been written already take
/// at most as much memory again.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    /// How many of `bytes` have been written.
    written: usize,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Adds the bytes of `payload` from `offset` on.
    pub(super) fn append(&mut self, payload: &GuestBytes<'_>, offset: usize) {
        // Moving the rest to the front costs no more than writing what was
        // before it did.
        if self.written >= self.len() {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        payload.append_to(&mut self.bytes, offset);
    }

    /// Writes to `sink` what it takes. Returns how many bytes that was; when
    /// it fails, nothing was written.
    pub(super) fn write_to(&mut self, sink: &mut impl io::Write) -> io::Result<usize> {
        loop {
            match sink.write(&self.bytes[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    if self.is_empty() {
                        self.clear();
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Forgets all bytes and gives their memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vm_memory::VolatileSlice;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(
            steps in prop::collection::vec((0usize..300, 0usize..300), 0..40),
        ) {
            let mut backlog = Backlog::default();
            let mut sent = Vec::new();
            let mut received = Vec::new();
            for (step, (append, write)) in steps.into_iter().enumerate() {
                let mut data = vec![step as u8; append];
                sent.extend_from_slice(&data);
                let payload = GuestBytes::from(VolatileSlice::from(&mut data[..]));
                backlog.append(&payload, 0);
                prop_assert!(backlog.bytes.len() <= 2 * backlog.len());
                let mut sink = vec![0; write];
                let count = backlog.write_to(&mut &mut sink[..]).unwrap();
                received.extend_from_slice(&sink[..count]);
                prop_assert_eq!(backlog.len(), sent.len() - received.len());
            }
            received.extend_from_slice(&backlog.bytes[backlog.written..]);
            prop_assert_eq!(sent, received);
        }
    }
}
