//! The driver's side of a virtqueue (virtio 1.3, 2.7), which keeps to the rules
//! only as far as its user does.

use arbitrary::Arbitrary;
use bulkhead_vmm::devices::virtio::device::ActiveQueue;
use bulkhead_vmm::memory::GuestMemory;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// The descriptor goes on with another.
pub const NEXT: u16 = 1;
/// The device writes to the descriptor.
pub const WRITE: u16 = 2;

/// A descriptor.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Descriptor {
    /// Where the buffer is.
    pub address: u64,
    /// How long.
    pub len: u32,
    /// See above.
    pub flags: u16,
    /// Which descriptor is next.
    pub next: u16,
}

/// A ring in guest memory.
pub struct Ring {
    base: u64,
    size: u16,
    next_avail: u16,
    next_used: u16,
    kick: EventFd,
}

impl Ring {
    /// A ring of `size` entries from address `base` on.
    pub fn new(base: u64, size: u16) -> Self {
        Self {
            base,
            size,
            next_avail: 0,
            next_used: 0,
            kick: EventFd::new(EFD_NONBLOCK).expect("an eventfd"),
        }
    }

    /// The device's side of it.
    pub fn queue(&self) -> ActiveQueue {
        let mut queue = Queue::new(256).expect("a power of two");
        queue.set_size(self.size);
        queue.set_desc_table_address(Some(self.base as u32), Some(0));
        queue.set_avail_ring_address(Some(self.avail() as u32), Some(0));
        queue.set_used_ring_address(Some(self.used() as u32), Some(0));
        queue.set_ready(true);
        ActiveQueue {
            queue,
            kick: self.kick.try_clone().expect("an eventfd"),
        }
    }

    /// Where the first byte after it is.
    pub fn end(&self) -> u64 {
        self.used() + 6 + 8 * u64::from(self.size)
    }

    /// Writes a descriptor; the index wraps.
    pub fn describe(&self, memory: &GuestMemory, index: u16, descriptor: Descriptor) {
        let at = self.base + 16 * u64::from(index % self.size);
        write(memory, at, &descriptor.address.to_le_bytes());
        write(memory, at + 8, &descriptor.len.to_le_bytes());
        write(memory, at + 12, &descriptor.flags.to_le_bytes());
        write(memory, at + 14, &descriptor.next.to_le_bytes());
    }

    /// Makes a chain available.
    pub fn offer(&mut self, memory: &GuestMemory, head: u16) {
        let entry = self.avail() + 4 + 2 * u64::from(self.next_avail % self.size);
        write(memory, entry, &head.to_le_bytes());
        self.announce(memory, 1);
    }

    /// Says that there are `count` chains more.
    pub fn announce(&mut self, memory: &GuestMemory, count: u16) {
        self.next_avail = self.next_avail.wrapping_add(count);
        write(memory, self.avail() + 2, &self.next_avail.to_le_bytes());
        // The counter is full only if there was a kick already.
        let _ = self.kick.write(1);
    }

    /// The next chain that the device has used: head and length.
    pub fn take_used(&mut self, memory: &GuestMemory) -> Option<(u32, u32)> {
        let index: u16 = read(memory, self.used() + 2);
        if index == self.next_used {
            return None;
        }
        let entry = self.used() + 4 + 8 * u64::from(self.next_used % self.size);
        self.next_used = self.next_used.wrapping_add(1);
        Some((read(memory, entry), read(memory, entry + 4)))
    }

    fn avail(&self) -> u64 {
        self.base + 16 * u64::from(self.size)
    }

    fn used(&self) -> u64 {
        (self.avail() + 6 + 2 * u64::from(self.size)).next_multiple_of(4)
    }
}

fn write(memory: &GuestMemory, at: u64, bytes: &[u8]) {
    memory
        .write_slice(bytes, GuestAddress(at))
        .expect("rings are in memory");
}

fn read<T: vm_memory::ByteValued>(memory: &GuestMemory, at: u64) -> T {
    memory
        .read_obj(GuestAddress(at))
        .expect("rings are in memory")
}
