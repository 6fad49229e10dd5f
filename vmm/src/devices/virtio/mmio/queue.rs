//! What the driver tells of a queue before it is used.

use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemory as _};

use super::register;
use crate::memory::GuestMemory;

/// The registers of one queue.
///
/// They are only a draft: the [`Queue`] that the device gets is made from them
/// once, and later writes to them change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueRegisters {
    max_size: u16,
    size: u32,
    ready: bool,
    desc: u64,
    driver: u64,
    device: u64,
}

impl QueueRegisters {
    pub(super) fn new(max_size: u16) -> Self {
        Self {
            max_size,
            size: u32::from(max_size),
            ready: false,
            desc: 0,
            driver: 0,
            device: 0,
        }
    }

    pub(super) fn max_size(&self) -> u16 {
        self.max_size
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.max_size);
    }

    /// Writes a register of the queue. While the queue is ready, only that can
    /// be changed (virtio 1.3, 4.2.2.2).
    pub(super) fn write(&mut self, offset: u64, value: u32) {
        if offset == register::QUEUE_READY {
            self.ready = value & 1 != 0;
            return;
        }
        if self.ready {
            return;
        }
        match offset {
            register::QUEUE_SIZE => self.size = value,
            register::QUEUE_DESC_LOW => set_low(&mut self.desc, value),
            register::QUEUE_DESC_HIGH => set_high(&mut self.desc, value),
            register::QUEUE_DRIVER_LOW => set_low(&mut self.driver, value),
            register::QUEUE_DRIVER_HIGH => set_high(&mut self.driver, value),
            register::QUEUE_DEVICE_LOW => set_low(&mut self.device, value),
            register::QUEUE_DEVICE_HIGH => set_high(&mut self.device, value),
            _ => {}
        }
    }

    /// Makes the queue, if it is ready and all of it makes sense.
    pub(super) fn build(&self, memory: &GuestMemory, event_idx: bool) -> Option<Queue> {
        let size = u16::try_from(self.size).ok()?;
        if !self.ready || !self.rings_are_in(memory, usize::from(size)) {
            return None;
        }
        let mut queue = Queue::new(self.max_size).ok()?;
        queue.try_set_size(size).ok()?;
        queue
            .try_set_desc_table_address(GuestAddress(self.desc))
            .ok()?;
        queue
            .try_set_avail_ring_address(GuestAddress(self.driver))
            .ok()?;
        queue
            .try_set_used_ring_address(GuestAddress(self.device))
            .ok()?;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        Some(queue)
    }

    /// Whether all rings lie in RAM (their sizes: virtio 1.3, 2.7).
    fn rings_are_in(&self, memory: &GuestMemory, size: usize) -> bool {
        memory.check_range(GuestAddress(self.desc), 16 * size)
            && memory.check_range(GuestAddress(self.driver), 6 + 2 * size)
            && memory.check_range(GuestAddress(self.device), 6 + 8 * size)
    }
}

fn set_low(address: &mut u64, value: u32) {
    *address = *address & !u64::from(u32::MAX) | u64::from(value);
}

fn set_high(address: &mut u64, value: u32) {
    *address = *address & u64::from(u32::MAX) | u64::from(value) << 32;
}
