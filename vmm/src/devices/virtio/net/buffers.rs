//! The driver's buffers.

use virtio_queue::{DescriptorChain, Queue, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryError};

use super::frame::HEADER_SIZE;
use crate::memory::GuestMemory;

/// What is wrong with a chain of descriptors.
#[derive(Debug, thiserror::Error)]
pub(super) enum BufferError {
    /// A descriptor points outside of the guest's memory.
    #[error("descriptor outside of memory")]
    OutsideMemory(#[from] GuestMemoryError),
    /// A descriptor is device-writable where it should be readable, or the other
    /// way round.
    #[error("descriptor of the wrong direction")]
    WrongDirection,
    /// There is no room for a frame's header.
    #[error("receive buffer of {len} bytes")]
    TooShort {
        /// Its length in bytes.
        len: usize,
    },
    /// More buffers than the queue holds, none of which has been given back.
    #[error("more receive buffers than the queue holds")]
    TooMany,
}

/// Copies a chain's bytes to `buffer`, and tells how many there were. What does not
/// fit is no frame: none.
pub(super) fn copy_from(
    memory: &GuestMemory,
    chain: DescriptorChain<&GuestMemory>,
    buffer: &mut [u8],
) -> Result<usize, BufferError> {
    let mut at = 0;
    for descriptor in chain {
        if descriptor.is_write_only() {
            return Err(BufferError::WrongDirection);
        }
        let len = descriptor.len() as usize;
        let Some(part) = buffer.get_mut(at..at + len) else {
            return Ok(0);
        };
        memory.read_slice(part, descriptor.addr())?;
        at += len;
    }
    Ok(at)
}

/// Gives buffers, by their heads and how much of each is filled, back to the driver
/// so that it sees all of them or none: the last one moves the ring's index past
/// those before it.
pub(super) fn use_together(
    queue: &mut Queue,
    memory: &GuestMemory,
    filled: &[(u16, u32)],
) -> Result<(), virtio_queue::Error> {
    let Some(((last, last_len), before)) = filled.split_last() else {
        return Ok(());
    };
    for &(head, len) in before {
        let slot = u64::from(queue.next_used() % queue.size());
        // The ring begins with two 16-bit fields (virtio 1.3, 2.7.8).
        let element = GuestAddress(queue.used_ring())
            .checked_add(4 + 8 * slot)
            .ok_or(virtio_queue::Error::AddressOverflow)?;
        let used = u64::from(head) | u64::from(len) << 32;
        memory
            .write_obj(used.to_le(), element)
            .map_err(virtio_queue::Error::GuestMemory)?;
        queue.set_next_used(queue.next_used().wrapping_add(1));
    }
    queue.add_used(memory, *last, *last_len)
}

/// A receive buffer.
#[derive(Debug)]
pub(super) struct Buffer {
    /// Index of the chain's first descriptor.
    pub(super) head: u16,
    parts: Vec<(GuestAddress, usize)>,
}

impl Buffer {
    /// The one that a chain of the receive queue describes.
    pub(super) fn of(chain: DescriptorChain<&GuestMemory>) -> Result<Self, BufferError> {
        let head = chain.head_index();
        let part = |descriptor: virtio_queue::desc::split::Descriptor| {
            let part = (descriptor.addr(), descriptor.len() as usize);
            let is_ours = descriptor.is_write_only();
            is_ours.then_some(part).ok_or(BufferError::WrongDirection)
        };
        let parts = chain.map(part).collect::<Result<_, _>>()?;
        let buffer = Self { head, parts };
        match buffer.len() {
            len if len < HEADER_SIZE => Err(BufferError::TooShort { len }),
            _ => Ok(buffer),
        }
    }

    fn len(&self) -> usize {
        let lengths = self.parts.iter().map(|(_, len)| *len);
        lengths.fold(0, usize::saturating_add)
    }

    /// Fills it as far as the bytes go, and tells how many it took.
    pub(super) fn fill(&self, memory: &GuestMemory, bytes: &[u8]) -> Result<usize, BufferError> {
        let mut rest = bytes;
        for &(address, len) in &self.parts {
            let (part, left) = rest.split_at(rest.len().min(len));
            memory.write_slice(part, address)?;
            rest = left;
        }
        Ok(bytes.len() - rest.len())
    }
}

/// Buffers that are taken from the queue and hold nothing yet.
#[derive(Debug, Default)]
pub(super) struct Room {
    buffers: Vec<Buffer>,
    len: usize,
}

impl Room {
    /// Adds a buffer from a queue of `queue_size` entries.
    pub(super) fn add(&mut self, buffer: Buffer, queue_size: u16) -> Result<(), BufferError> {
        if self.buffers.len() >= usize::from(queue_size) {
            return Err(BufferError::TooMany);
        }
        self.len = self.len.saturating_add(buffer.len());
        self.buffers.push(buffer);
        Ok(())
    }

    /// Whether `len` bytes fit.
    pub(super) fn holds(&self, len: usize) -> bool {
        self.len >= len
    }

    /// All of them.
    pub(super) fn take(&mut self) -> Vec<Buffer> {
        self.len = 0;
        std::mem::take(&mut self.buffers)
    }
}
