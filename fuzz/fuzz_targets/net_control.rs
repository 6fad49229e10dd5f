//! The control queue of a network device with several pairs of queues.
#![no_main]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::thread;

use arbitrary::Arbitrary;
use bulkhead_fuzz::input::{Chunk, Script};
use bulkhead_fuzz::ring::{Descriptor, Ring};
use bulkhead_vmm::devices::virtio::device::{Activation, VirtioDevice};
use bulkhead_vmm::devices::virtio::interrupt::Interrupt;
use bulkhead_vmm::devices::virtio::net::Net;
use bulkhead_vmm::event_loop::{EventLoop, EventLoopHandle, Handler};
use bulkhead_vmm::memory::GuestMemory;
use event_manager::{EventManager, SubscriberOps};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const MEMORY_LEN: u64 = 1 << 18;
const QUEUE_SIZE: u16 = 16;
const PAIRS: usize = 2;

/// One for all devices; where the pairs are served makes no difference to the control
/// queue.
static WORKER: LazyLock<EventLoopHandle> = LazyLock::new(|| {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut event_loop = EventLoop::new().unwrap();
        sender.send(event_loop.handle()).unwrap();
        while event_loop.run_once().is_ok() {}
    });
    receiver.recv().unwrap()
});

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

fn tap() -> File {
    let (tap, _) = UnixDatagram::pair().unwrap();
    tap.set_nonblocking(true).unwrap();
    OwnedFd::from(tap).into()
}

fuzz_target!(|steps: Script<Step<'_>>| {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_LEN as usize)]).unwrap();
    let mut rings: Vec<Ring> = (0..=2 * PAIRS as u64)
        .map(|queue| Ring::new(0x1_0000 + queue * 0x1000, QUEUE_SIZE))
        .collect();
    let workers = vec![WORKER.clone(); PAIRS];
    let taps = (0..PAIRS).map(|_| tap()).collect();
    let mut net = Net::new([2, 0, 0, 0, 0, 1], None, taps, &workers);
    let activation = Activation {
        memory: memory.clone(),
        features: net.features(),
        queues: rings.iter().map(Ring::queue).collect(),
        interrupt: Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap()),
    };
    let control = rings.last_mut().unwrap();
    let mut events: EventManager<Handler> = EventManager::new().unwrap();
    events.add_subscriber(net.activate(activation).unwrap());
    for step in steps.0 {
        match step {
            Step::Describe {
                index,
                mut descriptor,
                in_memory,
            } => {
                if in_memory {
                    descriptor.address %= MEMORY_LEN;
                    descriptor.len %= 8;
                }
                control.describe(&memory, index, descriptor);
            }
            Step::Offer(head) => control.offer(&memory, head),
            Step::Announce(count) => control.announce(&memory, count),
            Step::Memory {
                address,
                bytes: Chunk(bytes),
            } => {
                let _ = memory.write(bytes, GuestAddress(u64::from(address)));
            }
        }
        while events.run_with_timeout(0).unwrap() > 0 {}
    }
});
