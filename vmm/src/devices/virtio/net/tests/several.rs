//! A device of two pairs of queues.

use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::channel;
use std::thread;

use event_manager::{EventOps, Events, MutEventSubscriber, SubscriberOps};
use proptest::prelude::*;
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::super::Net;
use super::{BUFFERS, Loop, NEXT, WRITE, descriptor, eventfd, memory, wire};
use crate::devices::virtio::device::{Activation, ActiveQueue, VirtioDevice};
use crate::devices::virtio::interrupt::Interrupt;
use crate::event_loop::{EventLoop, EventLoopHandle};
use crate::memory::GuestMemory;

/// How far the rings of a queue are from those of the one before.
const RINGS: u64 = 0x1_0000;
const CONTROL: usize = 4;
const COMMAND: u64 = BUFFERS + 0x1_0000;
const ANSWER: u64 = COMMAND + 0x100;
const NO_ANSWER: u8 = 0xff;

/// An event loop on a thread of its own, for the rest of the process.
fn worker() -> EventLoopHandle {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut event_loop = EventLoop::new().unwrap();
        sender.send(event_loop.handle()).unwrap();
        while event_loop.run_once().is_ok() {}
    });
    receiver.recv().unwrap()
}

type Ring<'m> = MockSplitQueue<'m, GuestMemory>;

/// Those of all queues.
fn rings(memory: &GuestMemory) -> [Ring<'_>; 5] {
    std::array::from_fn(|index| Ring::create(memory, GuestAddress(index as u64 * RINGS), 16))
}

struct Fixture {
    memory: GuestMemory,
    kick: EventFd,
    interrupt: Interrupt,
    wires: [UnixDatagram; 2],
    net: Net,
    events: Loop,
    workers: [EventLoopHandle; 2],
}

impl Fixture {
    fn new(memory: &GuestMemory, rings: &[Ring<'_>; 5]) -> Self {
        let workers = [worker(), worker()];
        let ((first_tap, first), (second_tap, second)) = (wire(), wire());
        let taps = vec![first_tap, second_tap];
        let mut net = Net::new([2, 0, 0, 0, 0, 7], None, taps, &workers);
        let kick = eventfd();
        let queue = |(index, ring): (usize, &Ring<'_>)| ActiveQueue {
            queue: ring.create_queue().unwrap(),
            kick: match index {
                CONTROL => kick.try_clone().unwrap(),
                _ => eventfd(),
            },
        };
        let interrupt = Interrupt::new(eventfd());
        let activation = Activation {
            memory: memory.clone(),
            features: net.features(),
            queues: rings.iter().enumerate().map(queue).collect(),
            interrupt: interrupt.clone(),
        };
        let mut events = Loop::new().unwrap();
        events.add_subscriber(net.activate(activation).unwrap());
        Self {
            memory: memory.clone(),
            kick,
            interrupt,
            wires: [first, second],
            net,
            events,
            workers,
        }
    }

    fn run(&mut self) {
        self.kick.write(1).unwrap();
        while self.events.run_with_timeout(0).unwrap() > 0 {}
    }

    /// The `n`-th order (from 0) by the control queue, and what the device answers.
    fn order(&mut self, control: &Ring<'_>, n: u16, command: &[u8]) -> u8 {
        let memory = self.memory.clone();
        memory.write_slice(command, GuestAddress(COMMAND)).unwrap();
        memory.write_obj(NO_ANSWER, GuestAddress(ANSWER)).unwrap();
        // In two pieces, as Linux has it.
        let chain = [
            descriptor(COMMAND, 2, NEXT, 1),
            descriptor(COMMAND + 2, command.len() as u32 - 2, NEXT, 2),
            descriptor(ANSWER, 1, WRITE, 0),
        ];
        for (index, part) in (0..).zip(chain) {
            control.desc_table().store(index, part).unwrap();
        }
        offer(control, n);
        self.run();
        assert_eq!(control.used().idx().load(), n + 1);
        memory.read_obj(GuestAddress(ANSWER)).unwrap()
    }

    /// Whether a frame reaches the driver by a pair.
    fn frame_reaches(&self, pair: usize, rings: &[Ring<'_>; 5]) -> bool {
        let rx = &rings[2 * pair];
        let before = rx.used().idx().load();
        let buffer = descriptor(BUFFERS + pair as u64 * 0x1000, 0x1000, WRITE, 0);
        rx.desc_table().store(0, buffer).unwrap();
        offer(rx, before);
        self.wires[pair].send(&[0; 100]).unwrap();
        self.wait_for_worker(pair);
        rx.used().idx().load() == before + 1
    }

    /// Until it has handled what was there: a loop that takes a handler for the second
    /// time has gone round.
    fn wait_for_worker(&self, worker: usize) {
        for _ in 0..2 {
            let id = self.workers[worker].add(Box::new(Nothing)).unwrap();
            self.workers[worker].remove(id).unwrap();
        }
    }
}

/// Makes the chain at descriptor 0 available, as the `n`-th.
fn offer(ring: &Ring<'_>, n: u16) {
    let entry = ring.avail().ring().ref_at(n.into()).unwrap();
    entry.store(0_u16.to_le());
    ring.avail().idx().store((n + 1).to_le());
}

struct Nothing;

impl MutEventSubscriber for Nothing {
    fn init(&mut self, _ops: &mut EventOps) {}

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {}
}

/// `VIRTIO_NET_CTRL_MQ`, `VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET`.
fn use_pairs(count: u16) -> [u8; 4] {
    let [low, high] = count.to_le_bytes();
    [4, 0, low, high]
}

#[test]
fn control_queue_comes_last_and_the_driver_must_know_it() {
    let taps = vec![wire().0, wire().0];
    let net = Net::new([2, 0, 0, 0, 0, 7], None, taps, &[worker(), worker()]);
    assert_eq!(net.max_queue_sizes(), [256, 256, 256, 256, 16]);
    let mut pairs = [0; 2];
    net.read_config(8, &mut pairs);
    assert_eq!(pairs, [2, 0]);
    assert_eq!(net.features() >> 17 & 1, 1, "VIRTIO_NET_F_CTRL_VQ");
    assert_eq!(net.features() >> 22 & 1, 1, "VIRTIO_NET_F_MQ");
}

#[test]
fn each_pair_is_served_and_the_driver_may_use_all_of_them() {
    let memory = memory();
    let rings = rings(&memory);
    let mut fixture = Fixture::new(&memory, &rings);
    assert_eq!(fixture.order(&rings[CONTROL], 0, &use_pairs(2)), 0);
    assert!(fixture.frame_reaches(0, &rings));
    assert!(fixture.frame_reaches(1, &rings));
}

#[test]
fn other_orders_are_refused() {
    let memory = memory();
    let rings = rings(&memory);
    let mut fixture = Fixture::new(&memory, &rings);
    let orders: [&[u8]; 7] = [
        &use_pairs(0),
        &use_pairs(1),
        &use_pairs(3),
        &[4, 1, 2, 0],
        &[0, 0, 1, 0],
        &[4, 0, 2],
        &[4, 0, 2, 0, 0],
    ];
    for (n, order) in (0..).zip(orders) {
        assert_eq!(fixture.order(&rings[CONTROL], n, order), 1, "{order:?}");
    }
    assert!(!fixture.interrupt.needs_reset());
}

#[test]
fn order_without_room_for_an_answer_needs_a_reset() {
    let memory = memory();
    let rings = rings(&memory);
    let mut fixture = Fixture::new(&memory, &rings);
    let order = descriptor(COMMAND, 4, 0, 0);
    rings[CONTROL].desc_table().store(0, order).unwrap();
    offer(&rings[CONTROL], 0);
    fixture.run();
    assert!(fixture.interrupt.needs_reset());
}

#[test]
fn device_that_is_reset_leaves_the_workers() {
    let memory = memory();
    let rings = rings(&memory);
    let mut fixture = Fixture::new(&memory, &rings);
    assert!(fixture.frame_reaches(1, &rings));
    fixture.net.reset();
    assert!(!fixture.frame_reaches(1, &rings));
    assert!(!fixture.frame_reaches(0, &rings));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_control_queue_is_borne(
        descriptors in proptest::collection::vec(
            (any::<u64>(), 0u32..10, any::<u16>(), any::<u16>(), any::<bool>()), 1..8),
        heads in proptest::collection::vec(0u16..20, 0..16),
        idx in 0u16..20,
        bytes in proptest::collection::vec(0u8..6, 64),
    ) {
        let memory = memory();
        let rings = rings(&memory);
        let mut fixture = Fixture::new(&memory, &rings);
        memory.write_slice(&bytes, GuestAddress(COMMAND)).unwrap();
        let control = &rings[CONTROL];
        for (i, (addr, len, flags, next, in_ram)) in (0u16..).zip(descriptors) {
            let addr = if in_ram { COMMAND + addr % 60 } else { addr };
            let descriptor = descriptor(addr, len, flags % 8, next % 10);
            control.desc_table().store(i, descriptor).unwrap();
        }
        for (i, head) in heads.into_iter().enumerate() {
            control.avail().ring().ref_at(i).unwrap().store(head.to_le());
        }
        control.avail().idx().store(idx.to_le());
        fixture.run();
    }
}
