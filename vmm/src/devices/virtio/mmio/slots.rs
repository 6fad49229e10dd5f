//! Virtio devices in the machine: where each is, and how it is wired to KVM.

use std::io;

use kvm_ioctls::{IoEventAddress, VmFd};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::register;
use super::transport::{MmioTransport, Wiring};
use crate::arch::x86_64::layout::{VIRTIO_IRQ_START, VIRTIO_MMIO_SIZE, VIRTIO_MMIO_START};
use crate::devices::bus::Bus;
use crate::devices::virtio::device::VirtioDevice;
use crate::devices::virtio::interrupt::Interrupt;
use crate::event_loop::EventLoopHandle;
use crate::kvm::{KvmError, VmWithMemory, failed};

/// Why a device could not be wired.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// No eventfd for an interrupt or a queue.
    #[error("cannot make an eventfd for a virtio device")]
    EventFd(#[source] io::Error),
    /// KVM refused it.
    #[error("cannot wire a virtio device")]
    Kvm(#[from] KvmError),
}

/// Puts `devices` on a bus, one after the other, their interrupts likewise.
///
/// There must not be more than
/// [`VIRTIO_DEVICES_MAX`](crate::arch::x86_64::layout::VIRTIO_DEVICES_MAX).
pub fn place(
    devices: Vec<Box<dyn VirtioDevice>>,
    machine: &VmWithMemory,
    event_loop: &EventLoopHandle,
) -> Result<Bus, WiringError> {
    let mut bus = Bus::default();
    let vm = machine.fd();
    for (device, index) in devices.into_iter().zip(0u32..) {
        let start = VIRTIO_MMIO_START.0 + u64::from(index) * VIRTIO_MMIO_SIZE;
        let wiring = Wiring {
            memory: machine.memory().clone(),
            interrupt: wire_interrupt(vm, VIRTIO_IRQ_START + index)?,
            kicks: wire_kicks(vm, start, device.max_queue_sizes().len())?,
            event_loop: event_loop.clone(),
        };
        bus.insert(
            start,
            VIRTIO_MMIO_SIZE,
            Box::new(MmioTransport::new(device, wiring)),
        );
    }
    Ok(bus)
}

fn wire_interrupt(vm: &VmFd, irq: u32) -> Result<Interrupt, WiringError> {
    let line = eventfd()?;
    vm.register_irqfd(&line, irq).map_err(failed("KVM_IRQFD"))?;
    Ok(Interrupt::new(line))
}

fn wire_kicks(vm: &VmFd, start: u64, queues: usize) -> Result<Vec<EventFd>, WiringError> {
    let address = IoEventAddress::Mmio(start + register::QUEUE_NOTIFY);
    let wire = |index| {
        let kick = eventfd()?;
        vm.register_ioevent(&kick, &address, index)
            .map_err(failed("KVM_IOEVENTFD"))?;
        Ok(kick)
    };
    (0u32..).take(queues).map(wire).collect()
}

fn eventfd() -> Result<EventFd, WiringError> {
    EventFd::new(EFD_NONBLOCK).map_err(WiringError::EventFd)
}
