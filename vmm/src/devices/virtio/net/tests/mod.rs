//! The device between a driver's rings and a pair of datagram sockets, which keep
//! frames apart as a tap does.

mod several;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use event_manager::{EventManager, MutEventSubscriber, SubscriberOps};
use proptest::prelude::*;
use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Net;
use crate::devices::virtio::device::{ActivateError, Activation, ActiveQueue, VirtioDevice};
use crate::devices::virtio::interrupt::Interrupt;
use crate::memory::GuestMemory;

const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const MEMORY: usize = 1 << 20;
const RX_RINGS: u64 = 0;
const TX_RINGS: u64 = 0x1_0000;
const BUFFERS: u64 = 0x8_0000;

type Loop = EventManager<Box<dyn MutEventSubscriber + Send>>;

fn memory() -> GuestMemory {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap()
}

fn eventfd() -> EventFd {
    EventFd::new(EFD_NONBLOCK).unwrap()
}

/// A wire: its end at the device, and that at the world.
fn wire() -> (File, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (OwnedFd::from(theirs).into(), ours)
}

/// A device, and the world's end of its wire.
fn net() -> (Net, UnixDatagram) {
    let (tap, ours) = wire();
    let net = Net::new([2, 0, 0, 0, 0, 7], Some(1400), vec![tap], &[]);
    (net, ours)
}

/// An active device.
struct Fixture {
    rx_kick: EventFd,
    tx_kick: EventFd,
    interrupt: Interrupt,
    wire: UnixDatagram,
    events: Loop,
}

impl Fixture {
    fn new(
        memory: &GuestMemory,
        rx: &MockSplitQueue<GuestMemory>,
        tx: &MockSplitQueue<GuestMemory>,
    ) -> Self {
        let (mut net, wire) = net();
        let (rx_kick, tx_kick) = (eventfd(), eventfd());
        let queue = |driver: &MockSplitQueue<GuestMemory>, kick: &EventFd| ActiveQueue {
            queue: driver.create_queue().unwrap(),
            kick: kick.try_clone().unwrap(),
        };
        let interrupt = Interrupt::new(eventfd());
        let activation = Activation {
            memory: memory.clone(),
            features: net.features(),
            queues: vec![queue(rx, &rx_kick), queue(tx, &tx_kick)],
            interrupt: interrupt.clone(),
        };
        let mut events = Loop::new().unwrap();
        events.add_subscriber(net.activate(activation).unwrap());
        Self {
            rx_kick,
            tx_kick,
            interrupt,
            wire,
            events,
        }
    }

    fn kick(&mut self) {
        self.rx_kick.write(1).unwrap();
        self.tx_kick.write(1).unwrap();
        self.run();
    }

    fn run(&mut self) {
        while self.events.run_with_timeout(0).unwrap() > 0 {}
    }
}

fn descriptor(addr: u64, len: u32, flags: u16, next: u16) -> RawDescriptor {
    RawDescriptor::from(Descriptor::new(addr, len, flags, next))
}

fn queues(
    memory: &GuestMemory,
) -> (
    MockSplitQueue<'_, GuestMemory>,
    MockSplitQueue<'_, GuestMemory>,
) {
    let at = |base| MockSplitQueue::create(memory, GuestAddress(base), 16);
    (at(RX_RINGS), at(TX_RINGS))
}

#[test]
fn configuration_names_address_and_mtu() {
    let (net, _wire) = net();
    let mut config = [0xff; 14];
    net.read_config(0, &mut config);
    assert_eq!(config, [2, 0, 0, 0, 0, 7, 0, 0, 1, 0, 0x78, 5, 0, 0]);
    net.read_config(u64::MAX, &mut config);
    assert_eq!(config, [0; 14]);
}

#[test]
fn driver_that_takes_no_offloads_is_refused() {
    let memory = memory();
    let (rx, tx) = queues(&memory);
    let (mut net, _wire) = net();
    let queue = |driver: &MockSplitQueue<GuestMemory>| ActiveQueue {
        queue: driver.create_queue().unwrap(),
        kick: eventfd(),
    };
    let activation = Activation {
        memory: memory.clone(),
        features: 1 << 32,
        queues: vec![queue(&rx), queue(&tx)],
        interrupt: Interrupt::new(eventfd()),
    };
    let error = net.activate(activation).err().unwrap();
    assert!(matches!(error, ActivateError::MissingFeatures { .. }));
}

#[test]
fn frames_go_out_in_one_piece_and_bad_ones_do_not() {
    let memory = memory();
    let (rx, tx) = queues(&memory);
    let mut fixture = Fixture::new(&memory, &rx, &tx);
    memory
        .write_slice(&[7; 60], GuestAddress(BUFFERS + 12))
        .unwrap();
    // Too short to be one, and then one in two pieces.
    let chains = [
        descriptor(BUFFERS, 20, 0, 0),
        descriptor(BUFFERS, 30, NEXT, 2),
        descriptor(BUFFERS + 30, 42, 0, 0),
    ];
    for (index, chain) in (0..).zip(chains) {
        tx.desc_table().store(index, chain).unwrap();
    }
    for (index, head) in [0_u16, 1].into_iter().enumerate() {
        tx.avail().ring().ref_at(index).unwrap().store(head.to_le());
    }
    tx.avail().idx().store(2_u16.to_le());
    fixture.kick();
    let mut frame = [0; 100];
    assert_eq!(fixture.wire.recv(&mut frame).unwrap(), 72);
    assert_eq!(frame[12..72], [7; 60]);
    assert!(fixture.wire.recv(&mut frame).is_err(), "the short one");
    assert_eq!(tx.used().idx().load(), 2);
    assert_eq!(fixture.interrupt.status(), 1);
}

#[test]
fn frames_wait_for_room_and_take_as_many_buffers_as_they_need() {
    let memory = memory();
    let (rx, tx) = queues(&memory);
    let mut fixture = Fixture::new(&memory, &rx, &tx);
    let mut frame = vec![0; 12];
    frame.extend([9; 100]);
    fixture.wire.send(&frame).unwrap();
    fixture.run();
    assert_eq!(rx.used().idx().load(), 0, "there is no room");
    for index in 0..2 {
        let buffer = descriptor(BUFFERS + u64::from(index) * 0x1000, 64, WRITE, 0);
        rx.desc_table().store(index, buffer).unwrap();
        let entry = rx.avail().ring().ref_at(index.into()).unwrap();
        entry.store(index.to_le());
    }
    rx.avail().idx().store(1_u16.to_le());
    fixture.kick();
    assert_eq!(rx.used().idx().load(), 0, "there is not enough");
    rx.avail().idx().store(2_u16.to_le());
    fixture.kick();
    assert_eq!(rx.used().idx().load(), 2);
    let used = |index| rx.used().ring().ref_at(index).unwrap().load();
    assert_eq!((used(0).len(), used(1).len()), (64, 48));
    let header: [u8; 12] = memory.read_obj(GuestAddress(BUFFERS)).unwrap();
    assert_eq!(header[10..], [2, 0], "num_buffers");
    let mut rest = [0; 48];
    memory
        .read_slice(&mut rest, GuestAddress(BUFFERS + 0x1000))
        .unwrap();
    assert_eq!(rest, [9; 48]);
}

proptest! {
    #[test]
    fn any_queue_contents_are_borne(
        rings in proptest::collection::vec((
            proptest::collection::vec(
                (any::<u64>(), any::<u32>(), any::<u16>(), any::<u16>(), any::<bool>()), 1..8),
            proptest::collection::vec(0u16..20, 0..16),
            0u16..20,
        ), 2),
        frames in proptest::collection::vec(13usize..3000, 0..4),
    ) {
        let memory = memory();
        let (rx, tx) = queues(&memory);
        let mut fixture = Fixture::new(&memory, &rx, &tx);
        for (driver, (descriptors, heads, idx)) in [&rx, &tx].into_iter().zip(rings) {
            for (i, (addr, len, flags, next, in_ram)) in (0u16..).zip(descriptors) {
                let addr = if in_ram { addr % (1 << 20) } else { addr };
                let descriptor = descriptor(addr, len % 5000, flags % 8, next % 10);
                driver.desc_table().store(i, descriptor).unwrap();
            }
            for (i, head) in heads.into_iter().enumerate() {
                driver.avail().ring().ref_at(i).unwrap().store(head.to_le());
            }
            driver.avail().idx().store(idx.to_le());
        }
        for len in frames {
            fixture.wire.send(&vec![1; len]).unwrap();
        }
        fixture.kick();
    }
}
