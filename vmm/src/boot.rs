//! From a specification to a microVM that is ready to run: read this first.

use std::io;
use std::sync::Arc;

use kvm_ioctls::Kvm;
use vm_memory::{Bytes, GuestMemoryError};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::arch::x86_64::layout::{self, CMOS_PORT, POWER_PORT, RESET_PORT, SERIAL_PORT};
use crate::arch::x86_64::{boot_params, cpuid, gdt, mptable, page_tables};
use crate::clock;
use crate::control::{Control, Event};
use crate::devices::bus::Bus;
use crate::devices::cmos::Cmos;
use crate::devices::console::Console;
use crate::devices::power::PowerPort;
use crate::devices::reset::ResetPort;
use crate::devices::serial::SerialPort;
use crate::devices::virtio::device::VirtioDevice;
use crate::devices::virtio::mmio::slots::{self, WiringError};
use crate::devices::virtio::rng::Rng;
use crate::devices::virtio::vsock::{ListenError, Vsock};
use crate::event_loop::{EventLoop, EventLoopError};
use crate::host::{self, Unsuitable};
use crate::kernel::cmdline::{self, CmdlineError};
use crate::kernel::image::{self, Kernel, KernelError};
use crate::kernel::initramfs::{self, InitramfsError};
use crate::kvm::{self, KvmError, VmWithMemory, failed};
use crate::memory::{self, GuestMemory, MemoryError};
use crate::spec::{Source, VmSpec, VsockSpec};
use crate::stop::Stop;
use crate::vcpu::{Buses, Vcpu};
use crate::vm::Vm;

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
    /// No kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No initramfs.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// No kernel command line.
    #[error(transparent)]
    Cmdline(#[from] CmdlineError),
    /// The tables that the kernel reads at boot could not be written.
    #[error("cannot write the guest's boot tables")]
    BootTables(#[from] GuestMemoryError),
    /// The console's output has nowhere to go.
    #[error("cannot open the console's output {name}")]
    Console {
        /// What it was to be.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A virtio device could not be wired to KVM.
    #[error(transparent)]
    Wiring(#[from] WiringError),
    /// The host's side of the socket device could not be set up.
    #[error("cannot set up the socket device")]
    Vsock(#[from] ListenError),
    /// No event loop.
    #[error(transparent)]
    EventLoop(#[from] EventLoopError),
    /// No eventfd for an interrupt or a queue.
    #[error("cannot make an eventfd")]
    EventFd(#[source] io::Error),
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

    let console = open_console(spec.console.take())?;
    let pio = legacy_devices(&machine, &stop, &console)?;
    let devices = virtio_devices(&spec)?;
    let device_count = devices.len();
    let mmio = slots::place(
        devices,
        machine.fd(),
        machine.memory(),
        &event_loop.handle(),
    )?;
    let buses = Arc::new(Buses { pio, mmio });

    let kernel = load_guest(machine.memory(), &spec, device_count)?;
    let vcpus = make_vcpus(&kvm, &machine, spec.vcpus, &buses, &stop)?;
    vcpus[0].enter_at(kernel.entry)?;

    Ok(Vm {
        guest_tsc: vcpus[0].guest_tsc(),
        vcpus,
        event_loop,
        stop,
        console,
        control,
        fs_backends: Vec::new(),
        machine,
    })
}

fn open_console(source: Option<Source>) -> Result<Console, BootError> {
    let (name, console) = match source {
        None => return Ok(Console::without_sink()),
        Some(Source::Path(path)) => (path.display().to_string(), Console::to_path(&path)),
        Some(Source::Fd(fd)) => {
            let open = fd.take().map_err(io::Error::from);
            (
                "given as a descriptor".into(),
                open.and_then(|fd| Console::to_file(fd.into())),
            )
        }
    };
    console.map_err(|source| BootError::Console { name, source })
}

fn legacy_devices(
    machine: &VmWithMemory,
    stop: &Stop,
    console: &Console,
) -> Result<Bus, BootError> {
    let serial_line = EventFd::new(EFD_NONBLOCK).map_err(BootError::EventFd)?;
    machine
        .fd()
        .register_irqfd(&serial_line, layout::SERIAL_IRQ)
        .map_err(failed("KVM_IRQFD"))?;
    let mut pio = Bus::default();
    let mut insert = |(port, count): (u16, u16), device| {
        pio.insert(u64::from(port), u64::from(count), device);
    };
    insert(
        SERIAL_PORT,
        Box::new(SerialPort::new(serial_line, console.clone())),
    );
    insert(
        RESET_PORT,
        Box::new(ResetPort::new(stop.clone(), machine.memory().clone())),
    );
    insert(POWER_PORT, Box::new(PowerPort::new(stop.clone())));
    insert(CMOS_PORT, Box::new(Cmos));
    Ok(pio)
}

fn virtio_devices(spec: &VmSpec) -> Result<Vec<Box<dyn VirtioDevice>>, BootError> {
    let mut devices: Vec<Box<dyn VirtioDevice>> = Vec::new();
    if spec.rng {
        devices.push(Box::new(Rng));
    }
    if let Some(VsockSpec { cid, socket }) = &spec.vsock {
        devices.push(Box::new(Vsock::new(*cid, socket)?));
    }
    Ok(devices)
}

/// Brings all that the guest needs at its first instruction into its memory.
fn load_guest(memory: &GuestMemory, spec: &VmSpec, devices: usize) -> Result<Kernel, BootError> {
    let [(_, ram_end), _] = layout::ram_ranges(spec.memory_size);
    let kernel = image::load(memory, &spec.kernel, ram_end)?;
    let initramfs = match &spec.initramfs {
        Some(path) => Some(initramfs::load(memory, path, kernel.end, ram_end)?),
        None => None,
    };
    let cmdline_size = cmdline::write(memory, devices, initramfs.is_some(), &spec.cmdline)?;
    boot_params::write(memory, spec.memory_size, cmdline_size, initramfs)?;
    memory.write_obj(gdt::TABLE, layout::GDT)?;
    page_tables::write(memory)?;
    let device_irqs = (0..devices as u32).map(|index| layout::VIRTIO_IRQ_START + index);
    let irqs: Vec<u32> = std::iter::once(layout::SERIAL_IRQ)
        .chain(device_irqs)
        .collect();
    mptable::write(memory, spec.vcpus, &irqs)?;
    Ok(kernel)
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
