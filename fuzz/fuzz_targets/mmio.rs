//! The registers of a virtio device, up to its activation and beyond.
#![no_main]

use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::{fs, thread};

use arbitrary::Arbitrary;
use bulkhead_fuzz::input::{Chunk, Script};
use bulkhead_vmm::devices::bus::BusDevice;
use bulkhead_vmm::devices::virtio::device::VirtioDevice;
use bulkhead_vmm::devices::virtio::interrupt::Interrupt;
use bulkhead_vmm::devices::virtio::mmio::transport::{MmioTransport, Wiring};
use bulkhead_vmm::devices::virtio::rng::Rng;
use bulkhead_vmm::devices::virtio::vsock::Vsock;
use bulkhead_vmm::event_loop::{EventLoop, EventLoopHandle};
use bulkhead_vmm::memory::GuestMemory;
use event_manager::{EventOps, Events, MutEventSubscriber};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const MEMORY_LEN: usize = 1 << 16;

/// Offsets of registers (virtio 1.3, 4.2.2).
mod register {
    pub const MAGIC: u64 = 0x000;
    pub const DEVICE_FEATURES: u64 = 0x010;
    pub const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub const DRIVER_FEATURES: u64 = 0x020;
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub const QUEUE_SEL: u64 = 0x030;
    pub const QUEUE_SIZE: u64 = 0x038;
    pub const QUEUE_READY: u64 = 0x044;
    pub const STATUS: u64 = 0x070;
    pub const QUEUE_DESC: u64 = 0x080;
    pub const QUEUE_DRIVER: u64 = 0x090;
    pub const QUEUE_DEVICE: u64 = 0x0a0;
}

const ACKNOWLEDGE_DRIVER: u32 = 3;
const FEATURES_OK: u32 = 8;
const DRIVER_OK: u32 = 4;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    vsock: bool,
    steps: Script<Step<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Read {
        offset: u64,
        len: u8,
    },
    Write {
        offset: u64,
        bytes: Chunk<'a>,
    },
    /// A write of the size and to an offset that registers have.
    Register {
        index: u8,
        value: u32,
    },
    /// All of the negotiation before the queues, with features that are on offer,
    /// mostly.
    Negotiate {
        features: u32,
        chance: u8,
    },
    Queue {
        index: u8,
        size: u16,
        desc: u64,
        driver: u64,
        device: u64,
    },
    /// All queues but one, with addresses that are good.
    GoodQueues {
        but: u8,
    },
    Start,
    /// Once in a while.
    Reset {
        chance: u8,
    },
    Memory {
        address: u16,
        bytes: Chunk<'a>,
    },
    Kick(u8),
}

/// Does nothing, on the event loop.
struct Nothing;

impl MutEventSubscriber for Nothing {
    fn init(&mut self, _ops: &mut EventOps) {}

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {}
}

/// An event loop on a thread of its own.
fn event_loop() -> &'static EventLoopHandle {
    static HANDLE: LazyLock<EventLoopHandle> = LazyLock::new(|| {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut event_loop = EventLoop::new().unwrap();
            sender.send(event_loop.handle()).unwrap();
            loop {
                event_loop.run_once().unwrap();
            }
        });
        receiver.recv().unwrap()
    });
    &HANDLE
}

fn device(vsock: bool) -> Box<dyn VirtioDevice> {
    static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    if !vsock {
        return Box::new(Rng);
    }
    let path = DIRECTORY.path().join("vsock");
    let device = Vsock::new(3, &path).unwrap();
    fs::remove_file(path).unwrap();
    Box::new(device)
}

struct Driver {
    transport: MmioTransport,
    memory: GuestMemory,
    kicks: Vec<EventFd>,
}

impl Driver {
    fn new(device: Box<dyn VirtioDevice>) -> Self {
        let eventfd = || EventFd::new(EFD_NONBLOCK).unwrap();
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_LEN)]).unwrap();
        let kicks: Vec<_> = device.max_queue_sizes().iter().map(|_| eventfd()).collect();
        let wiring = Wiring {
            memory: memory.clone(),
            interrupt: Interrupt::new(eventfd()),
            kicks: kicks.iter().map(|kick| kick.try_clone().unwrap()).collect(),
            event_loop: event_loop().clone(),
        };
        Self {
            transport: MmioTransport::new(device, wiring),
            memory,
            kicks,
        }
    }

    fn take(&mut self, step: &Step<'_>) {
        match *step {
            Step::Read { offset, len } => {
                self.transport
                    .read(offset, &mut vec![0xff; usize::from(len)]);
            }
            Step::Write {
                offset,
                bytes: Chunk(bytes),
            } => self.transport.write(offset, bytes),
            Step::Register { index, value } => self.write(u64::from(index) * 4, value),
            Step::Negotiate { features, chance } => {
                self.write(register::DEVICE_FEATURES_SEL, 0);
                let offered = self.read(register::DEVICE_FEATURES);
                self.negotiate(if chance < 32 {
                    features
                } else {
                    features & offered
                });
            }
            Step::Queue {
                index,
                size,
                desc,
                driver,
                device,
            } => self.set_up(index, size, [desc, driver, device]),
            Step::GoodQueues { but } => {
                for index in (0..4).filter(|&index| index != but) {
                    let base = u64::from(index) * 0x4000;
                    self.set_up(index, 4, [base, base + 0x1000, base + 0x2000]);
                }
            }
            Step::Start => self.write(
                register::STATUS,
                ACKNOWLEDGE_DRIVER | FEATURES_OK | DRIVER_OK,
            ),
            Step::Reset { chance } => {
                if chance < 64 {
                    self.reset();
                }
            }
            Step::Memory {
                address,
                bytes: Chunk(bytes),
            } => {
                let _ = self.memory.write(bytes, GuestAddress(u64::from(address)));
            }
            Step::Kick(index) => self.kick(index),
        }
        assert_eq!(self.read(register::MAGIC), u32::from_le_bytes(*b"virt"));
        let status = self.read(register::STATUS);
        assert!(status & DRIVER_OK == 0 || status & FEATURES_OK != 0);
    }

    fn read(&mut self, offset: u64) -> u32 {
        let mut word = [0xff; 4];
        self.transport.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn write(&mut self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    fn negotiate(&mut self, features: u32) {
        self.write(register::STATUS, ACKNOWLEDGE_DRIVER);
        // The upper half is `VIRTIO_F_VERSION_1`.
        for (half, features) in [(0, features), (1, 1)] {
            self.write(register::DRIVER_FEATURES_SEL, half);
            self.write(register::DRIVER_FEATURES, features);
        }
        self.write(register::STATUS, ACKNOWLEDGE_DRIVER | FEATURES_OK);
    }

    fn set_up(&mut self, index: u8, size: u16, addresses: [u64; 3]) {
        self.write(register::QUEUE_SEL, u32::from(index));
        self.write(register::QUEUE_SIZE, u32::from(size));
        let registers = [
            register::QUEUE_DESC,
            register::QUEUE_DRIVER,
            register::QUEUE_DEVICE,
        ];
        for (register, address) in registers.into_iter().zip(addresses) {
            self.write(register, address as u32);
            self.write(register + 4, (address >> 32) as u32);
        }
        self.write(register::QUEUE_READY, 1);
    }

    /// Notifies a queue, and lets the device work.
    fn kick(&mut self, index: u8) {
        let index = usize::from(index) % self.kicks.len();
        self.kicks[index].write(1).unwrap();
        // Sources have their turns in the order in which they became ready.
        let nothing = event_loop().add(Box::new(Nothing)).unwrap();
        event_loop().remove(nothing).unwrap();
    }

    fn reset(&mut self) {
        self.write(register::STATUS, 0);
        assert_eq!(self.read(register::STATUS), 0);
    }
}

fuzz_target!(|input: Input<'_>| {
    let mut driver = Driver::new(device(input.vsock));
    for step in &input.steps.0 {
        driver.take(step);
    }
    // The handler goes with the device.
    driver.reset();
});
