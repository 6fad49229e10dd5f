//! The device at work.

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use rustix::rand::{GetRandomFlags, getrandom};
use virtio_queue::{DescriptorChain, Error, Queue, QueueOwnedT, QueueT};
use vm_memory::Bytes;
use vmm_sys_util::eventfd::EventFd;

use crate::devices::virtio::device::ActiveQueue;
use crate::devices::virtio::interrupt::Interrupt;
use crate::memory::GuestMemory;

/// What a request gets at most: a driver that wants more asks again.
const REQUEST_MAX: usize = 256;

/// Fills the buffers on the queue.
pub(super) struct QueueHandler {
    memory: GuestMemory,
    queue: Queue,
    kick: EventFd,
    interrupt: Interrupt,
}

impl QueueHandler {
    pub(super) fn new(memory: GuestMemory, queue: ActiveQueue, interrupt: Interrupt) -> Self {
        Self {
            memory,
            queue: queue.queue,
            kick: queue.kick,
            interrupt,
        }
    }

    /// Serves the requests on the queue, of which there are no more than its
    /// size: what the driver adds meanwhile waits for its kick.
    fn serve(&mut self) -> Result<(), Error> {
        let chains: Vec<_> = self.queue.iter(&self.memory)?.collect();
        for chain in chains {
            let head = chain.head_index();
            if head >= self.queue.size() {
                return Err(Error::InvalidDescriptorIndex);
            }
            let written = fill(&self.memory, chain);
            self.queue.add_used(&self.memory, head, written)?;
        }
        if self.queue.needs_notification(&self.memory)? {
            self.interrupt.signal_used_queue();
        }
        Ok(())
    }
}

/// Writes random bytes to a request's buffers and returns their number.
fn fill(memory: &GuestMemory, chain: DescriptorChain<&GuestMemory>) -> u32 {
    let mut random = [0; REQUEST_MAX];
    let Ok(len) = getrandom(&mut random, GetRandomFlags::empty()) else {
        return 0;
    };
    let mut rest = &random[..len];
    for descriptor in chain.writable() {
        let part = rest.len().min(descriptor.len() as usize);
        if part == 0
            || memory
                .write_slice(&rest[..part], descriptor.addr())
                .is_err()
        {
            break;
        }
        rest = &rest[part..];
    }
    (len - rest.len()) as u32
}

impl MutEventSubscriber for QueueHandler {
    fn init(&mut self, ops: &mut EventOps) {
        if ops.add(Events::new(&self.kick, EventSet::IN)).is_err() {
            self.interrupt.signal_needs_reset();
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        // Nothing to read means that there was a kick before, and it was served.
        let _ = self.kick.read();
        if self.serve().is_err() {
            self.interrupt.signal_needs_reset();
            let _ = ops.remove(events);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
    use virtio_queue::desc::RawDescriptor;
    use virtio_queue::desc::split::Descriptor;
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::{GuestAddress, GuestMemoryMmap};
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    const BUFFERS: u64 = 0x8_0000;
    const WRITE: u16 = VRING_DESC_F_WRITE as u16;
    const NEXT: u16 = VRING_DESC_F_NEXT as u16;

    fn memory() -> GuestMemory {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap()
    }

    fn handler(memory: &GuestMemory, queue: Queue) -> QueueHandler {
        let eventfd = || EventFd::new(EFD_NONBLOCK).unwrap();
        let queue = ActiveQueue {
            queue,
            kick: eventfd(),
        };
        QueueHandler::new(memory.clone(), queue, Interrupt::new(eventfd()))
    }

    fn descriptor(addr: u64, len: u32, flags: u16, next: u16) -> RawDescriptor {
        RawDescriptor::from(Descriptor::new(addr, len, flags, next))
    }

    #[test]
    fn writable_buffers_are_filled() {
        let memory = memory();
        let driver = MockSplitQueue::new(&memory, 16);
        let chain = [
            descriptor(BUFFERS, 8, NEXT, 1), // readable: left alone
            descriptor(BUFFERS + 0x100, 16, WRITE | NEXT, 2),
            descriptor(BUFFERS + 0x200, 4096, WRITE, 0),
        ];
        driver.build_desc_chain(&chain).unwrap();
        let mut handler = handler(&memory, driver.create_queue().unwrap());
        handler.serve().unwrap();

        let used = driver.used().ring().ref_at(0).unwrap().load();
        assert_eq!((used.id(), used.len()), (0, REQUEST_MAX as u32));
        assert_eq!(handler.interrupt.status(), 1);
        let read = |at: u64| {
            memory
                .read_obj::<[u8; 16]>(GuestAddress(BUFFERS + at))
                .unwrap()
        };
        assert_eq!(read(0), [0; 16]);
        assert_ne!(read(0x100), [0; 16]);
        assert_ne!(read(0x200), [0; 16]);
        assert_eq!(read(0x200 + REQUEST_MAX as u64), [0; 16]);
    }

    #[test]
    fn too_many_requests_are_an_error() {
        let memory = memory();
        let driver = MockSplitQueue::new(&memory, 16);
        let queue = driver.create_queue().unwrap();
        driver.avail().idx().store(17u16.to_le());
        assert!(handler(&memory, queue).serve().is_err());
    }

    proptest! {
        #[test]
        fn any_queue_contents_are_borne(
            descriptors in proptest::collection::vec(
                (any::<u64>(), any::<u32>(), any::<u16>(), any::<u16>(), any::<bool>()), 1..8),
            heads in proptest::collection::vec(0u16..20, 0..16),
            idx in 0u16..20,
        ) {
            let memory = memory();
            let driver = MockSplitQueue::new(&memory, 16);
            let queue = driver.create_queue().unwrap();
            for (i, (addr, len, flags, next, in_ram)) in (0u16..).zip(descriptors) {
                let addr = if in_ram { addr % (1 << 20) } else { addr };
                let descriptor = descriptor(addr, len, flags % 8, next % 10);
                driver.desc_table().store(i, descriptor).unwrap();
            }
            for (i, head) in heads.into_iter().enumerate() {
                driver.avail().ring().ref_at(i).unwrap().store(head.to_le());
            }
            driver.avail().idx().store(idx.to_le());
            let _ = handler(&memory, queue).serve();
        }
    }
}
