//! The network device's queues, and what its tap has to say.
#![no_main]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use arbitrary::Arbitrary;
use bulkhead_fuzz::input::{Chunk, Script};
use bulkhead_fuzz::ring::{Descriptor, Ring};
use bulkhead_vmm::devices::virtio::device::{Activation, VirtioDevice};
use bulkhead_vmm::devices::virtio::interrupt::Interrupt;
use bulkhead_vmm::devices::virtio::net::Net;
use bulkhead_vmm::event_loop::Handler;
use bulkhead_vmm::memory::GuestMemory;
use event_manager::{EventManager, SubscriberOps};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const MEMORY_LEN: u64 = 1 << 18;
const QUEUE_SIZE: u16 = 16;

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Describe {
        transmit: bool,
        index: u16,
        descriptor: Descriptor,
        in_memory: bool,
    },
    Offer(bool, u16),
    Announce(bool, u16),
    Memory {
        address: u16,
        bytes: Chunk<'a>,
    },
    Frame(Chunk<'a>),
}

fuzz_target!(|steps: Script<Step<'_>>| {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_LEN as usize)]).unwrap();
    let rx = Ring::new(0, QUEUE_SIZE);
    let tx = Ring::new(rx.end().next_multiple_of(4096), QUEUE_SIZE);
    let mut rings = [rx, tx];
    let (wire, tap) = UnixDatagram::pair().unwrap();
    wire.set_nonblocking(true).unwrap();
    tap.set_nonblocking(true).unwrap();
    let taps = vec![OwnedFd::from(tap).into()];
    let mut net = Net::new([2, 0, 0, 0, 0, 1], None, taps, &[]);
    let activation = Activation {
        memory: memory.clone(),
        features: net.features(),
        queues: rings.iter().map(Ring::queue).collect(),
        interrupt: Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap()),
    };
    let mut events: EventManager<Handler> = EventManager::new().unwrap();
    events.add_subscriber(net.activate(activation).unwrap());
    for step in steps.0 {
        match step {
            Step::Describe {
                transmit,
                index,
                mut descriptor,
                in_memory,
            } => {
                if in_memory {
                    descriptor.address %= MEMORY_LEN;
                    descriptor.len %= 1 << 17;
                }
                rings[usize::from(transmit)].describe(&memory, index, descriptor);
            }
            Step::Offer(transmit, head) => rings[usize::from(transmit)].offer(&memory, head),
            Step::Announce(transmit, count) => {
                rings[usize::from(transmit)].announce(&memory, count);
            }
            Step::Memory {
                address,
                bytes: Chunk(bytes),
            } => {
                let _ = memory.write(bytes, GuestAddress(u64::from(address)));
            }
            // A wire that is full loses it.
            Step::Frame(Chunk(bytes)) => drop(wire.send(bytes)),
        }
        while events.run_with_timeout(0).unwrap() > 0 {}
        let mut frame = [0; 1 << 17];
        while let Ok(len) = wire.recv(&mut frame) {
            assert!((12 + 14..=12 + 65_535 + 26).contains(&len));
        }
    }
});
