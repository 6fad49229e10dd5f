//! Packets in the guest's memory.
//!
//! A packet may be spread over its chain's descriptors in any way
//! (virtio 1.3, 2.7.4), and Linux does so for data it sends without copying.
//! That is why `virtio_vsock::packet`, which wants one descriptor for the
//! header and one for the payload at most, is of no use here.

use std::io;

use virtio_queue::DescriptorChain;
use vm_memory::{
    GuestMemory as _, GuestMemoryError, ReadVolatile, VolatileMemoryError, VolatileSlice,
    WriteVolatile,
};

use super::packet::{HEADER_SIZE, Header, MAX_PAYLOAD};
use crate::memory::GuestMemory;

/// Most bytes of a chain that are looked at.
const MAX_PACKET: usize = HEADER_SIZE + MAX_PAYLOAD as usize;

/// Most pieces that a packet may be spread over: each costs a system call.
/// Linux needs one for the header and up to 18 for the payload.
const MAX_PIECES: usize = 64;

/// What is wrong with a chain of descriptors.
#[derive(Debug, thiserror::Error)]
pub(super) enum BufferError {
    /// A descriptor is device-writable where it should be readable, or the
    /// other way round.
    #[error("descriptor of the wrong direction")]
    WrongDirection,
    /// A descriptor points outside of the guest's memory.
    #[error("descriptor outside of memory")]
    OutsideMemory(#[from] GuestMemoryError),
    /// The packet is spread over too many descriptors.
    #[error("packet in more than {MAX_PIECES} pieces")]
    TooManyPieces,
    /// There is no room for a packet.
    #[error("chain of {len} bytes is too short for a packet")]
    TooShort {
        /// Size of the chain in bytes.
        len: usize,
    },
    /// The header promises a payload that is not there.
    #[error("payload of {len} bytes in a chain with room for {room}")]
    PayloadTooLong {
        /// What the header says, in bytes.
        len: u32,
        /// What the chain holds, in bytes, up to the limit of a packet.
        room: usize,
    },
}

/// A packet from the guest.
pub(super) struct TxPacket<'a> {
    /// A copy of its header.
    pub(super) header: Header,
    /// Its payload, as long as the header says.
    pub(super) payload: GuestBytes<'a>,
}

impl<'a> TxPacket<'a> {
    /// Takes the packet in a chain of the transmit queue.
    pub(super) fn from_chain(
        memory: &'a GuestMemory,
        chain: DescriptorChain<&'a GuestMemory>,
    ) -> Result<Self, BufferError> {
        let (head, mut payload) = gather(memory, chain, Direction::FromGuest)?;
        let mut bytes = [0; HEADER_SIZE];
        head.read(&mut bytes);
        let header = Header::from_bytes(&bytes);
        let room = payload.len();
        if header.len as usize > room {
            return Err(BufferError::PayloadTooLong {
                len: header.len,
                room,
            });
        }
        payload.truncate(header.len as usize);
        Ok(Self { header, payload })
    }
}

/// Room for a packet to the guest.
pub(super) struct RxBuffer<'a> {
    head: GuestBytes<'a>,
    /// Where the payload goes; never empty.
    pub(super) payload: GuestBytes<'a>,
}

impl<'a> RxBuffer<'a> {
    /// Takes the room in a chain of the receive queue.
    pub(super) fn from_chain(
        memory: &'a GuestMemory,
        chain: DescriptorChain<&'a GuestMemory>,
    ) -> Result<Self, BufferError> {
        let (head, payload) = gather(memory, chain, Direction::ToGuest)?;
        if payload.len() == 0 {
            return Err(BufferError::TooShort { len: HEADER_SIZE });
        }
        Ok(Self { head, payload })
    }

    /// Completes the packet. Returns how many bytes of the chain are used.
    pub(super) fn write_header(&self, header: Header) -> u32 {
        self.head.write(&header.to_bytes());
        HEADER_SIZE as u32 + header.len
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    FromGuest,
    ToGuest,
}

/// Collects a chain's bytes, up to the limit of a packet: header and the rest.
fn gather<'a>(
    memory: &'a GuestMemory,
    chain: DescriptorChain<&'a GuestMemory>,
    direction: Direction,
) -> Result<(GuestBytes<'a>, GuestBytes<'a>), BufferError> {
    let mut bytes = GuestBytes::default();
    for descriptor in chain {
        if descriptor.is_write_only() != (direction == Direction::ToGuest) {
            return Err(BufferError::WrongDirection);
        }
        let len = (MAX_PACKET - bytes.len()).min(descriptor.len() as usize);
        for slice in memory.get_slices(descriptor.addr(), len) {
            bytes.push(slice?);
        }
        if bytes.pieces.len() > MAX_PIECES {
            return Err(BufferError::TooManyPieces);
        }
    }
    let len = bytes.len();
    let payload = bytes
        .split_off(HEADER_SIZE)
        .ok_or(BufferError::TooShort { len })?;
    Ok((bytes, payload))
}

/// Bytes in guest memory, in as many pieces as it takes.
#[derive(Default)]
pub(super) struct GuestBytes<'a> {
    pieces: Vec<VolatileSlice<'a>>,
    len: usize,
}

impl<'a> GuestBytes<'a> {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Reads from `source` until `limit` bytes have come, there is no more
    /// room, or a call gives less than asked for.
    pub(super) fn fill_from(
        &self,
        source: &mut impl ReadVolatile,
        limit: usize,
    ) -> io::Result<usize> {
        let mut filled = 0;
        for piece in &self.pieces {
            let wanted = piece.len().min(limit - filled);
            let mut room = piece.subslice(0, wanted).map_err(io::Error::other)?;
            match retry(|| source.read_volatile(&mut room)) {
                Ok(read) => {
                    filled += read;
                    if read < wanted || filled == limit {
                        break;
                    }
                }
                Err(error) if filled == 0 => return Err(error),
                // It comes again on the next call.
                Err(_) => break,
            }
        }
        Ok(filled)
    }

    /// Writes to `sink` until all bytes are written or a call takes less than
    /// it was given.
    pub(super) fn drain_to(&self, sink: &mut impl WriteVolatile) -> io::Result<usize> {
        let mut drained = 0;
        for piece in &self.pieces {
            match retry(|| sink.write_volatile(piece)) {
                Ok(written) => {
                    drained += written;
                    if written < piece.len() {
                        break;
                    }
                }
                Err(error) if drained == 0 => return Err(error),
                // It comes again on the next call.
                Err(_) => break,
            }
        }
        Ok(drained)
    }

    /// Appends all bytes from `offset` on to `bytes`.
    pub(super) fn append_to(&self, bytes: &mut Vec<u8>, offset: usize) {
        let mut skip = offset;
        for piece in &self.pieces {
            if let Ok(rest) = piece.offset(skip.min(piece.len())) {
                let start = bytes.len();
                bytes.resize(start + rest.len(), 0);
                rest.copy_to(&mut bytes[start..]);
            }
            skip = skip.saturating_sub(piece.len());
        }
    }

    /// Copies the first bytes to `buffer`, as many as it holds.
    fn read(&self, buffer: &mut [u8]) {
        let mut rest = buffer;
        for piece in &self.pieces {
            let copied = piece.copy_to(rest);
            rest = &mut rest[copied..];
        }
    }

    /// Overwrites the first bytes with `buffer`.
    fn write(&self, buffer: &[u8]) {
        let mut rest = buffer;
        for piece in &self.pieces {
            let len = rest.len().min(piece.len());
            piece.copy_from(rest);
            rest = &rest[len..];
        }
    }

    fn push(&mut self, piece: VolatileSlice<'a>) {
        self.len += piece.len();
        self.pieces.push(piece);
    }

    /// Drops what is beyond the first `len` bytes.
    fn truncate(&mut self, len: usize) {
        drop(self.split_off(len));
    }

    /// Keeps the first `at` bytes and returns the others; `None`, and no
    /// change, if there are not as many.
    fn split_off(&mut self, at: usize) -> Option<Self> {
        if at > self.len {
            return None;
        }
        let mut kept = Self::default();
        let mut rest = Self::default();
        for piece in self.pieces.drain(..) {
            let cut = piece.len().min(at - kept.len);
            // Within the piece, whatever `split_at` fears.
            let Ok((front, back)) = piece.split_at(cut) else {
                continue;
            };
            for (bytes, part) in [(&mut kept, front), (&mut rest, back)] {
                if !part.is_empty() {
                    bytes.push(part);
                }
            }
        }
        *self = kept;
        Some(rest)
    }
}

/// Calls `io` until it is not interrupted.
fn retry(mut io: impl FnMut() -> Result<usize, VolatileMemoryError>) -> io::Result<usize> {
    loop {
        match io() {
            Ok(count) => return Ok(count),
            Err(VolatileMemoryError::IOError(error))
                if error.kind() == io::ErrorKind::Interrupted => {}
            Err(VolatileMemoryError::IOError(error)) => return Err(error),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

#[cfg(test)]
impl<'a> From<VolatileSlice<'a>> for GuestBytes<'a> {
    fn from(piece: VolatileSlice<'a>) -> Self {
        let mut bytes = Self::default();
        bytes.push(piece);
        bytes
    }
}
