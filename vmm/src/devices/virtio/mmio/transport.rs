//! The registers through which a driver sets a device up.
//!
//! ```text
//!  reset ─ACKNOWLEDGE─► ─DRIVER─► ─FEATURES_OK─► ─DRIVER_OK─► active
//!    ▲                  features   queues                       │
//!    └──────────────────────── 0 is written ────────────────────┘
//! ```
//!
//! Activation turns the queue registers into queues and moves these into the
//! device's handler on the event loop. From then on only a reset gets at them.

use std::mem;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::EventFd;

use super::queue::QueueRegisters;
use super::{register, status};
use crate::devices::bus::BusDevice;
use crate::devices::virtio::device::{ActivateError, Activation, ActiveQueue, VirtioDevice};
use crate::devices::virtio::interrupt::Interrupt;
use crate::event_loop::{EventLoopHandle, HandlerId};
use crate::memory::GuestMemory;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"BLKH");
/// What the registers of a shared memory region that does not exist read as
/// (virtio 1.3, 4.2.2).
const NO_SHARED_MEMORY: u32 = u32::MAX;

const F_VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const F_EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;

/// What a device needs of the machine.
pub struct Wiring {
    /// The guest's memory.
    pub memory: GuestMemory,
    /// The device's interrupt.
    pub interrupt: Interrupt,
    /// For each queue, what the driver's notifications signal: KVM turns writes
    /// to `QueueNotify` into signals, so that they never arrive here.
    pub kicks: Vec<EventFd>,
    /// Where the device's handler goes.
    pub event_loop: EventLoopHandle,
}

/// A device on the bus.
pub struct MmioTransport {
    device: Box<dyn VirtioDevice>,
    wiring: Wiring,
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    queues: Vec<QueueRegisters>,
    /// Whether the device has been activated since its last reset.
    active: bool,
    /// The handler of an active device.
    handler: Option<HandlerId>,
}

impl MmioTransport {
    /// Puts a device, for each of whose queues there must be a kick, behind
    /// registers.
    pub fn new(device: Box<dyn VirtioDevice>, wiring: Wiring) -> Self {
        debug_assert_eq!(device.max_queue_sizes().len(), wiring.kicks.len());
        let queues = device
            .max_queue_sizes()
            .iter()
            .copied()
            .map(QueueRegisters::new)
            .collect();
        Self {
            device,
            wiring,
            status: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            queue_sel: 0,
            queues,
            active: false,
            handler: None,
        }
    }

    fn read_register(&self, offset: u64) -> u32 {
        match offset {
            register::MAGIC_VALUE => MAGIC,
            register::VERSION => VERSION,
            register::DEVICE_ID => self.device.device_type(),
            register::VENDOR_ID => VENDOR,
            register::DEVICE_FEATURES => match self.device_features_sel {
                0 => self.offered_features() as u32,
                1 => (self.offered_features() >> 32) as u32,
                _ => 0,
            },
            register::QUEUE_SIZE_MAX => self.selected_queue().map_or(0, |q| q.max_size().into()),
            register::QUEUE_READY => self.selected_queue().map_or(0, |q| q.is_ready().into()),
            register::INTERRUPT_STATUS => self.wiring.interrupt.status(),
            register::STATUS => self.status(),
            register::SHM_LEN_LOW
            | register::SHM_LEN_HIGH
            | register::SHM_BASE_LOW
            | register::SHM_BASE_HIGH => NO_SHARED_MEMORY,
            // `ConfigGeneration` among others: no device changes its configuration.
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) {
        match offset {
            register::DEVICE_FEATURES_SEL => self.device_features_sel = value,
            register::DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            register::DRIVER_FEATURES => self.write_driver_features(value),
            register::QUEUE_SEL => self.queue_sel = value,
            register::INTERRUPT_ACK => self.wiring.interrupt.acknowledge(value),
            register::STATUS => self.write_status(value),
            _ => self.write_queue_register(offset, value),
        }
    }

    fn offered_features(&self) -> u64 {
        self.device.features() | F_VERSION_1
    }

    fn write_driver_features(&mut self, value: u32) {
        let negotiating = self.has(status::DRIVER) && !self.has(status::FEATURES_OK);
        match self.driver_features_sel {
            0 if negotiating => {
                self.driver_features = self.driver_features & !0xffff_ffff | u64::from(value);
            }
            1 if negotiating => {
                self.driver_features = self.driver_features & 0xffff_ffff | u64::from(value) << 32;
            }
            _ => {}
        }
    }

    fn selected_queue(&self) -> Option<&QueueRegisters> {
        self.queues.get(usize::try_from(self.queue_sel).ok()?)
    }

    /// Queue registers count between `FEATURES_OK` and `DRIVER_OK` only.
    fn write_queue_register(&mut self, offset: u64, value: u32) {
        if !self.has(status::FEATURES_OK) || self.has(status::DRIVER_OK) {
            return;
        }
        if let Some(queue) = self.queues.get_mut(self.queue_sel as usize) {
            queue.write(offset, value);
        }
    }

    fn has(&self, bit: u32) -> bool {
        self.status & bit != 0
    }

    fn status(&self) -> u32 {
        let needs_reset = self.wiring.interrupt.needs_reset();
        self.status
            | if needs_reset {
                status::DEVICE_NEEDS_RESET
            } else {
                0
            }
    }

    /// The driver sets bits one after the other, each when what it stands for
    /// is done, or resets the device. Other writes are mistakes without effect.
    fn write_status(&mut self, value: u32) {
        if value == 0 {
            return self.reset();
        }
        if self.status & !value != 0 {
            return;
        }
        let new = value & !self.status;
        if new & status::FAILED != 0 {
            self.status |= status::FAILED;
            return;
        }
        if new & status::ACKNOWLEDGE != 0 {
            self.status |= status::ACKNOWLEDGE;
        }
        if new & status::DRIVER != 0 && self.has(status::ACKNOWLEDGE) {
            self.status |= status::DRIVER;
        }
        if new & status::FEATURES_OK != 0 && self.has(status::DRIVER) && self.features_agree() {
            self.status |= status::FEATURES_OK;
        }
        if new & status::DRIVER_OK != 0 && self.has(status::FEATURES_OK) {
            self.status |= status::DRIVER_OK;
            if self.activate().is_err() {
                self.wiring.interrupt.signal_needs_reset();
            }
        }
    }

    fn features_agree(&self) -> bool {
        self.driver_features & !self.offered_features() == 0
            && self.driver_features & F_VERSION_1 != 0
    }

    fn activate(&mut self) -> Result<(), ActivateError> {
        let activation = Activation {
            memory: self.wiring.memory.clone(),
            features: self.driver_features,
            queues: self.build_queues()?,
            interrupt: self.wiring.interrupt.clone(),
        };
        let handler = self.device.activate(activation)?;
        self.active = true;
        let added = self.wiring.event_loop.add(handler);
        // The loop is gone only when the microVM is being stopped.
        self.handler = added.ok();
        Ok(())
    }

    fn build_queues(&self) -> Result<Vec<ActiveQueue>, ActivateError> {
        let event_idx = self.driver_features & F_EVENT_IDX != 0;
        let build = |(index, (registers, kick)): (usize, (&QueueRegisters, &EventFd))| {
            let queue = registers
                .build(&self.wiring.memory, event_idx)
                .ok_or(ActivateError::QueueNotReady { index })?;
            Ok(ActiveQueue {
                queue,
                kick: kick.try_clone()?,
            })
        };
        self.queues
            .iter()
            .zip(&self.wiring.kicks)
            .enumerate()
            .map(build)
            .collect()
    }

    fn reset(&mut self) {
        if let Some(handler) = self.handler.take() {
            // Fails only when the loop is gone, and the handler with it.
            let _ = self.wiring.event_loop.remove(handler);
        }
        if mem::take(&mut self.active) {
            self.device.reset();
        }
        self.wiring.interrupt.clear();
        self.queues.iter_mut().for_each(QueueRegisters::reset);
        self.status = 0;
        self.device_features_sel = 0;
        self.driver_features_sel = 0;
        self.driver_features = 0;
        self.queue_sel = 0;
    }
}

impl BusDevice for MmioTransport {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let Some(config_offset) = offset.checked_sub(register::CONFIG) {
            data.fill(0);
            self.device.read_config(config_offset, data);
        } else if let (Ok(word), true) = (<&mut [u8; 4]>::try_from(data), offset.is_multiple_of(4))
        {
            *word = self.read_register(offset).to_le_bytes();
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        // No device has configuration that the driver may write.
        if let (Ok(word), true) = (<[u8; 4]>::try_from(data), offset.is_multiple_of(4)) {
            self.write_register(offset, u32::from_le_bytes(word));
        }
    }
}
