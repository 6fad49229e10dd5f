//! Tests of the transport, with a device that only tells what happens to it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex};
use std::thread;

use event_manager::{EventOps, Events, MutEventSubscriber};
use proptest::prelude::*;
use virtio_queue::QueueT;
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::transport::{MmioTransport, Wiring};
use super::{register, status};
use crate::devices::bus::BusDevice;
use crate::devices::virtio::device::{ActivateError, Activation, VirtioDevice};
use crate::devices::virtio::interrupt::Interrupt;
use crate::event_loop::{EventLoop, EventLoopHandle};

const FEATURES: u64 = 0x5;
const VERSION_1: u64 = 1 << 32;
const READY_STATUS: u32 = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
const RAM: usize = 1 << 20;

#[derive(Debug)]
enum Happening {
    Activated(Activation),
    HandlerDropped,
    Reset,
}

struct TestDevice(Sender<Happening>);

struct TestHandler(Sender<Happening>);

impl VirtioDevice for TestDevice {
    fn device_type(&self) -> u32 {
        42
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn max_queue_sizes(&self) -> &[u16] {
        &[256, 16]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        for (byte, n) in data.iter_mut().zip(offset as u8..4) {
            *byte = n + 1;
        }
    }

    fn activate(
        &mut self,
        activation: Activation,
    ) -> Result<Box<dyn MutEventSubscriber + Send>, ActivateError> {
        self.0.send(Happening::Activated(activation)).unwrap();
        Ok(Box::new(TestHandler(self.0.clone())))
    }

    fn reset(&mut self) {
        self.0.send(Happening::Reset).unwrap();
    }
}

impl MutEventSubscriber for TestHandler {
    fn init(&mut self, _ops: &mut EventOps) {}

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {}
}

impl Drop for TestHandler {
    fn drop(&mut self) {
        // The test may have ended.
        let _ = self.0.send(Happening::HandlerDropped);
    }
}

/// An event loop on a thread of its own, shared by all tests.
fn event_loop() -> EventLoopHandle {
    static HANDLE: LazyLock<Mutex<EventLoopHandle>> = LazyLock::new(|| {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut event_loop = EventLoop::new().unwrap();
            sender.send(event_loop.handle()).unwrap();
            while event_loop.run_once().is_ok() {}
        });
        Mutex::new(receiver.recv().unwrap())
    });
    HANDLE.lock().unwrap().clone()
}

struct Driver {
    transport: MmioTransport,
    happenings: Receiver<Happening>,
}

impl Driver {
    fn new() -> Self {
        let (sender, happenings) = channel();
        let eventfd = || EventFd::new(EFD_NONBLOCK).unwrap();
        let wiring = Wiring {
            memory: GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM)]).unwrap(),
            interrupt: Interrupt::new(eventfd()),
            kicks: vec![eventfd(), eventfd()],
            event_loop: event_loop(),
        };
        Self {
            transport: MmioTransport::new(Box::new(TestDevice(sender)), wiring),
            happenings,
        }
    }

    fn read(&mut self, offset: u64) -> u32 {
        let mut data = [0xff; 4];
        self.transport.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&mut self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    fn negotiate(&mut self, features: u64) {
        self.write(register::STATUS, status::ACKNOWLEDGE);
        self.write(register::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        for (sel, half) in [(0, features), (1, features >> 32)] {
            self.write(register::DRIVER_FEATURES_SEL, sel);
            self.write(register::DRIVER_FEATURES, half as u32);
        }
        self.write(register::STATUS, READY_STATUS);
    }

    fn set_up_queue(&mut self, index: u32, size: u32, base: u32) {
        self.write(register::QUEUE_SEL, index);
        self.write(register::QUEUE_SIZE, size);
        self.write(register::QUEUE_DESC_LOW, base);
        self.write(register::QUEUE_DRIVER_LOW, base + 0x2000);
        self.write(register::QUEUE_DEVICE_LOW, base + 0x3000);
        self.write(register::QUEUE_READY, 1);
    }

    fn activate(&mut self) {
        self.negotiate(VERSION_1 | 1);
        self.set_up_queue(0, 128, 0x1_0000);
        self.set_up_queue(1, 16, 0x2_0000);
        self.write(register::STATUS, READY_STATUS | status::DRIVER_OK);
    }
}

#[test]
fn identity_is_told() {
    let mut driver = Driver::new();
    assert_eq!(driver.read(register::MAGIC_VALUE), 0x7472_6976);
    assert_eq!(driver.read(register::VERSION), 2);
    assert_eq!(driver.read(register::DEVICE_ID), 42);
}

#[test]
fn features_are_offered_with_version_1() {
    let mut driver = Driver::new();
    assert_eq!(driver.read(register::DEVICE_FEATURES), FEATURES as u32);
    driver.write(register::DEVICE_FEATURES_SEL, 1);
    assert_eq!(driver.read(register::DEVICE_FEATURES), 1);
    driver.write(register::DEVICE_FEATURES_SEL, 2);
    assert_eq!(driver.read(register::DEVICE_FEATURES), 0);
}

#[test]
fn features_beyond_the_offer_or_without_version_1_are_refused() {
    for features in [VERSION_1 | 2, 1, VERSION_1 << 1 | VERSION_1] {
        let mut driver = Driver::new();
        driver.negotiate(features);
        assert_eq!(
            driver.read(register::STATUS),
            status::ACKNOWLEDGE | status::DRIVER
        );
    }
}

#[test]
fn activation_hands_over_what_was_negotiated() {
    let mut driver = Driver::new();
    driver.activate();
    let Happening::Activated(activation) = driver.happenings.recv().unwrap() else {
        panic!()
    };
    assert_eq!(activation.features, VERSION_1 | 1);
    let sizes: Vec<u16> = activation
        .queues
        .iter()
        .map(|queue| queue.queue.size())
        .collect();
    assert_eq!(sizes, [128, 16]);
    assert_eq!(activation.queues[1].queue.desc_table(), 0x2_0000);
    assert_eq!(
        driver.read(register::STATUS),
        READY_STATUS | status::DRIVER_OK
    );
}

#[test]
fn active_device_ignores_queue_registers() {
    let mut driver = Driver::new();
    driver.activate();
    driver.set_up_queue(0, 64, 0x5_0000);
    driver.write(register::QUEUE_READY, 0);
    driver.write(register::STATUS, READY_STATUS | status::DRIVER_OK);
    assert_eq!(driver.read(register::QUEUE_READY), 1);
    assert!(matches!(
        driver.happenings.try_recv(),
        Ok(Happening::Activated(_))
    ));
    assert!(driver.happenings.try_recv().is_err());
}

#[test]
fn reset_drops_the_handler_before_the_device_is_reset() {
    let mut driver = Driver::new();
    driver.activate();
    driver.write(register::STATUS, 0);
    assert!(matches!(
        driver.happenings.try_recv(),
        Ok(Happening::Activated(_))
    ));
    assert!(matches!(
        driver.happenings.try_recv(),
        Ok(Happening::HandlerDropped)
    ));
    assert!(matches!(driver.happenings.try_recv(), Ok(Happening::Reset)));
    assert_eq!(driver.read(register::STATUS), 0);
    driver.activate();
    assert!(matches!(
        driver.happenings.try_recv(),
        Ok(Happening::Activated(_))
    ));
}

#[test]
fn device_that_was_not_activated_is_not_reset() {
    let mut driver = Driver::new();
    driver.negotiate(VERSION_1);
    driver.write(register::STATUS, READY_STATUS | status::DRIVER_OK);
    driver.write(register::STATUS, 0);
    assert!(driver.happenings.try_recv().is_err());
}

#[test]
fn queue_that_makes_no_sense_needs_a_reset() {
    let spoil: [fn(&mut Driver); 5] = [
        |driver| driver.write(register::QUEUE_READY, 0),
        |driver| driver.set_up_queue(1, 15, 0x2_0000), // no power of two
        |driver| driver.set_up_queue(1, 32, 0x2_0000), // above the maximum
        |driver| driver.set_up_queue(1, 16, RAM as u32 - 16), // beyond RAM
        |driver| driver.set_up_queue(1, 16, 0x2_0004), // misaligned
    ];
    for spoil in spoil {
        let mut driver = Driver::new();
        driver.negotiate(VERSION_1);
        driver.set_up_queue(0, 128, 0x1_0000);
        driver.set_up_queue(1, 16, 0x2_0000);
        driver.write(register::QUEUE_READY, 0);
        spoil(&mut driver);
        driver.write(register::STATUS, READY_STATUS | status::DRIVER_OK);
        let expected = READY_STATUS | status::DRIVER_OK | status::DEVICE_NEEDS_RESET;
        assert_eq!(driver.read(register::STATUS), expected);
        assert_eq!(driver.read(register::INTERRUPT_STATUS), 2);
        assert!(driver.happenings.try_recv().is_err());
    }
}

#[test]
fn steps_cannot_be_skipped_or_taken_back() {
    let mut driver = Driver::new();
    driver.write(register::STATUS, status::DRIVER);
    assert_eq!(driver.read(register::STATUS), 0);
    driver.write(
        register::STATUS,
        status::ACKNOWLEDGE | status::DRIVER | status::DRIVER_OK,
    );
    assert_eq!(
        driver.read(register::STATUS),
        status::ACKNOWLEDGE | status::DRIVER
    );
    driver.write(register::STATUS, status::DRIVER);
    assert_eq!(
        driver.read(register::STATUS),
        status::ACKNOWLEDGE | status::DRIVER
    );
}

#[test]
fn configuration_is_read_at_any_width() {
    let mut driver = Driver::new();
    let mut data = [0xff; 8];
    driver.transport.read(register::CONFIG + 1, &mut data);
    assert_eq!(data, [2, 3, 4, 0, 0, 0, 0, 0]);
    let mut byte = [0xff];
    driver.transport.read(register::CONFIG, &mut byte);
    assert_eq!(byte, [1]);
}

#[test]
fn registers_are_accessed_by_aligned_words_only() {
    let mut driver = Driver::new();
    let mut half = [0xff; 2];
    driver.transport.read(register::MAGIC_VALUE, &mut half);
    assert_eq!(half, [0xff; 2]);
    assert_eq!(driver.read(register::MAGIC_VALUE + 2), u32::MAX);
    driver.transport.write(register::STATUS, &[1]);
    assert_eq!(driver.read(register::STATUS), 0);
}

#[test]
fn absent_queue_has_size_zero() {
    let mut driver = Driver::new();
    driver.write(register::QUEUE_SEL, 2);
    assert_eq!(driver.read(register::QUEUE_SIZE_MAX), 0);
    driver.write(register::QUEUE_SEL, 1);
    assert_eq!(driver.read(register::QUEUE_SIZE_MAX), 16);
}

/// Accesses as a hostile driver makes them: some sensible, some not.
fn access() -> impl Strategy<Value = (u64, u32)> {
    let offset = prop_oneof![(0u64..0x50).prop_map(|n| n * 4), 0u64..0x200, any::<u64>()];
    let value = prop_oneof![
        0u32..16,
        Just(READY_STATUS),
        Just(READY_STATUS | status::DRIVER_OK),
        (0u32..512).prop_map(|page| page * 0x1000),
        any::<u32>(),
    ];
    (offset, value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_accesses_are_borne(
        negotiated in any::<bool>(),
        accesses in proptest::collection::vec(access(), 0..64),
    ) {
        let mut driver = Driver::new();
        if negotiated {
            driver.negotiate(VERSION_1);
        }
        for (offset, value) in accesses {
            driver.read(offset);
            driver.write(offset, value);
        }
        for happening in driver.happenings.try_iter() {
            if let Happening::Activated(activation) = happening {
                prop_assert!(activation.queues.iter().all(|q| q.queue.is_valid(&activation.memory)));
            }
        }
    }
}
