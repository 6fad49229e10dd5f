//! The entropy device's queue.
#![no_main]

use arbitrary::Arbitrary;
use bulkhead_fuzz::input::{Chunk, Script};
use bulkhead_fuzz::ring::{Descriptor, Ring};
use bulkhead_vmm::devices::virtio::device::{Activation, VirtioDevice};
use bulkhead_vmm::devices::virtio::interrupt::Interrupt;
use bulkhead_vmm::devices::virtio::rng::Rng;
use bulkhead_vmm::event_loop::Handler;
use bulkhead_vmm::memory::GuestMemory;
use event_manager::{EventManager, SubscriberOps};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const MEMORY_LEN: u64 = 1 << 16;
const QUEUE_SIZE: u16 = 16;
/// What the device gives for a request at most.
const REQUEST_MAX: u32 = 256;

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Describe {
        index: u16,
        descriptor: Descriptor,
        in_memory: bool,
    },
    Offer(u16),
    Announce(u16),
    Memory {
        address: u16,
        bytes: Chunk<'a>,
    },
}

fuzz_target!(|steps: Script<Step<'_>>| {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_LEN as usize)]).unwrap();
    let mut ring = Ring::new(0, QUEUE_SIZE);
    let activation = Activation {
        memory: memory.clone(),
        features: 0,
        queues: vec![ring.queue()],
        interrupt: Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap()),
    };
    let mut events: EventManager<Handler> = EventManager::new().unwrap();
    events.add_subscriber(Rng.activate(activation).unwrap());
    // A device that was told to write over its own ring says what it was told.
    let mut is_honest = true;
    for step in steps.0 {
        match step {
            Step::Describe {
                index,
                mut descriptor,
                in_memory,
            } => {
                if in_memory {
                    descriptor.address %= MEMORY_LEN;
                }
                let end = descriptor.address.checked_add(u64::from(descriptor.len));
                is_honest &= descriptor.address >= ring.end() && end.is_some();
                ring.describe(&memory, index, descriptor);
            }
            Step::Offer(head) => ring.offer(&memory, head),
            Step::Announce(count) => ring.announce(&memory, count),
            Step::Memory {
                address,
                bytes: Chunk(bytes),
            } => {
                is_honest &= u64::from(address) >= ring.end();
                let _ = memory.write(bytes, GuestAddress(u64::from(address)));
            }
        }
        while events.run_with_timeout(0).unwrap() > 0 {}
        while is_honest && let Some((_, len)) = ring.take_used(&memory) {
            assert!(len <= REQUEST_MAX);
        }
    }
});
