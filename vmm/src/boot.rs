//! From a specification to a microVM that is ready to run: read this first.

mod devices;
mod guest;

use std::mem;
use std::sync::Arc;

use kvm_ioctls::Kvm;

pub use self::devices::DevicesError;
use self::devices::VirtioDevices;
pub use self::guest::GuestError;
use crate::arch::x86_64::cpuid;
use crate::clock;
use crate::control::{Control, Event};
use crate::devices::virtio::mmio::slots;
use crate::event_loop::{EventLoop, EventLoopError};
use crate::host::{self, Unsuitable};
use crate::kvm::{self, KvmError, VmWithMemory};
use crate::memory::{self, MemoryError};
use crate::spec::VmSpec;
use crate::stop::Stop;
use crate::vcpu::{Buses, Vcpu};
use crate::vm::Vm;
use crate::workers::Workers;

/// Why a microVM could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// This host cannot run guests.
    #[error("this host cannot run guests")]
    Host(#[from] Unsuitable),
    /// KVM refused a call.
    #[error("cannot set up the virtual machine")]
    Kvm(#[from] KvmError),
    /// No memory for the guest.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// No event loop.
    #[error(transparent)]
    EventLoop(#[from] EventLoopError),
    /// The devices could not be made.
    #[error(transparent)]
    Devices(#[from] DevicesError),
    /// The guest could not be loaded.
    #[error(transparent)]
    Guest(#[from] GuestError),
}

/// Builds the microVM.
pub fn boot(mut spec: VmSpec, control: Control) -> Result<Vm, BootError> {
    let kvm = host::open_kvm()?;
    let vm = kvm::create_vm(&kvm)?;
    let machine = VmWithMemory::new(vm, memory::allocate(spec.memory_size)?)?;
    control.send(&Event::KvmReady(clock::now()));

    let mut event_loop = EventLoop::new()?;
    let stop = Stop::new(event_loop.handle());
    if let Some(watch) = control.watch(stop.clone()) {
        event_loop.add(Box::new(watch));
    }

    let console = devices::open_console(spec.console.take())?;
    let pio = devices::legacy(&machine, &stop, &console)?;
    let workers = Workers::new(devices::workers_needed(&spec.net))?;
    let VirtioDevices {
        devices,
        fs_backends,
    } = devices::virtio(
        spec.rng,
        spec.vsock.take(),
        mem::take(&mut spec.fs),
        mem::take(&mut spec.net),
        &stop,
        &workers.handles(),
    )?;
    let device_count = devices.len();
    let mmio = slots::place(devices, &machine, &event_loop.handle()).map_err(DevicesError::from)?;
    let buses = Arc::new(Buses { pio, mmio });

    let entry = guest::load(machine.memory(), &spec, device_count)?;
    let vcpus = make_vcpus(&kvm, &machine, spec.vcpus, &buses, &stop)?;
    vcpus[0].enter_at(entry)?;

    Ok(Vm {
        guest_tsc: vcpus[0].guest_tsc(),
        vcpus,
        event_loop,
        workers,
        stop,
        console,
        control,
        fs_backends,
        machine,
    })
}

fn make_vcpus(
    kvm: &Kvm,
    machine: &VmWithMemory,
    count: u8,
    buses: &Arc<Buses>,
    stop: &Stop,
) -> Result<Vec<Vcpu>, KvmError> {
    let supported = kvm::supported_cpuid(kvm)?;
    let mut cpuid = cpuid::build(&supported, count, kvm::has_tsc_deadline(kvm));
    (0..count)
        .map(|id| Vcpu::new(machine.fd(), id, &mut cpuid, buses.clone(), stop.clone()))
        .collect()
}
