//! The stage that makes the devices.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::arch::x86_64::layout::{CMOS_PORT, POWER_PORT, RESET_PORT, SERIAL_IRQ, SERIAL_PORT};
use crate::devices::bus::Bus;
use crate::devices::cmos::Cmos;
use crate::devices::console::Console;
use crate::devices::power::PowerPort;
use crate::devices::reset::ResetPort;
use crate::devices::serial::SerialPort;
use crate::devices::virtio::device::VirtioDevice;
use crate::devices::virtio::fs::Fs;
use crate::devices::virtio::mmio::slots::WiringError;
use crate::devices::virtio::net::Net;
use crate::devices::virtio::rng::Rng;
use crate::devices::virtio::vsock::{ListenError, Vsock};
use crate::event_loop::EventLoopHandle;
use crate::inherited_fd::InheritedFd;
use crate::kvm::{KvmError, VmWithMemory, failed};
use crate::spec::{FsSpec, NetSpec, Source, VsockSpec};
use crate::stop::Stop;

/// Why there are no devices.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// The console's output has nowhere to go.
    #[error("cannot open the console's output ({name})")]
    Console {
        /// What it was to be.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// No eventfd for the serial port's interrupt.
    #[error("cannot make an eventfd for the serial port")]
    EventFd(#[source] io::Error),
    /// The serial port's interrupt could not be wired.
    #[error("cannot wire the serial port")]
    Serial(#[from] KvmError),
    /// A virtio device could not be wired to KVM.
    #[error(transparent)]
    Wiring(#[from] WiringError),
    /// The host's side of the socket device could not be set up.
    #[error("cannot set up the socket device")]
    Vsock(#[from] ListenError),
    /// A tap was not handed over.
    #[error("cannot use descriptor {number} as a tap")]
    Tap {
        /// The descriptor's number.
        number: i32,
        /// Why.
        source: io::Error,
    },
    /// The backend of a file system cannot be reached.
    #[error("cannot connect to the backend of file system {tag:?}")]
    FsBackend {
        /// The file system's tag.
        tag: String,
        /// Why.
        source: io::Error,
    },
}

/// Opens what the serial console's output goes to.
pub(super) fn open_console(source: Option<Source>) -> Result<Console, DevicesError> {
    let (name, console) = match source {
        None => return Ok(Console::without_sink()),
        Some(Source::Path(path)) => (path.display().to_string(), Console::to_path(&path)),
        Some(Source::Fd(fd)) => {
            let name = format!("descriptor {}", fd.number());
            let file = fd.take().map_err(io::Error::from);
            (name, file.and_then(|file| Console::to_file(file.into())))
        }
    };
    console.map_err(|source| DevicesError::Console { name, source })
}

/// The devices behind I/O ports.
pub(super) fn legacy(
    machine: &VmWithMemory,
    stop: &Stop,
    console: &Console,
) -> Result<Bus, DevicesError> {
    let line = EventFd::new(EFD_NONBLOCK).map_err(DevicesError::EventFd)?;
    machine
        .fd()
        .register_irqfd(&line, SERIAL_IRQ)
        .map_err(failed("KVM_IRQFD"))?;
    let serial = SerialPort::new(line, console.clone());
    let reset = ResetPort::new(stop.clone(), machine.memory().clone());
    let mut bus = Bus::default();
    let mut insert = |(port, count): (u16, u16), device| {
        bus.insert(u64::from(port), u64::from(count), device);
    };
    insert(SERIAL_PORT, Box::new(serial));
    insert(RESET_PORT, Box::new(reset));
    insert(POWER_PORT, Box::new(PowerPort::new(stop.clone())));
    insert(CMOS_PORT, Box::new(Cmos));
    Ok(bus)
}

/// The virtio devices.
pub(super) struct VirtioDevices {
    /// In the order in which they are placed.
    pub(super) devices: Vec<Box<dyn VirtioDevice>>,
    /// The connections of the file systems among them.
    pub(super) fs_backends: Vec<UnixStream>,
}

/// How many workers the devices need: one for each pair of a network device's
/// queues, if it has several.
pub(super) fn workers_needed(net: &[NetSpec]) -> usize {
    let pairs = net.iter().map(|net| net.taps.len());
    pairs.filter(|pairs| *pairs > 1).max().unwrap_or(0)
}

/// Makes the virtio devices. There must be as many workers as they
/// [need](workers_needed).
pub(super) fn virtio(
    rng: bool,
    vsock: Option<VsockSpec>,
    fs: Vec<FsSpec>,
    net: Vec<NetSpec>,
    stop: &Stop,
    workers: &[EventLoopHandle],
) -> Result<VirtioDevices, DevicesError> {
    let mut devices: Vec<Box<dyn VirtioDevice>> = Vec::new();
    let mut fs_backends = Vec::new();
    if rng {
        devices.push(Box::new(Rng));
    }
    if let Some(VsockSpec { cid, socket }) = vsock {
        devices.push(Box::new(Vsock::new(cid, &socket)?));
    }
    for FsSpec { tag, backend } in fs {
        let (stream, handle) = connect(backend).map_err(|source| DevicesError::FsBackend {
            tag: tag.clone(),
            source,
        })?;
        devices.push(Box::new(Fs::new(tag, stream, stop.clone())));
        fs_backends.push(handle);
    }
    for NetSpec { mac, mtu, taps } in net {
        let taps = taps.into_iter().map(take_tap).collect::<Result<_, _>>()?;
        devices.push(Box::new(Net::new(mac, mtu, taps, workers)));
    }
    Ok(VirtioDevices {
        devices,
        fs_backends,
    })
}

/// Takes one over, and sees to it that it does not block.
fn take_tap(tap: InheritedFd) -> Result<File, DevicesError> {
    let number = tap.number();
    let failed = |errno: Errno| DevicesError::Tap {
        number,
        source: errno.into(),
    };
    let tap = tap.take().map_err(failed)?;
    rustix::io::ioctl_fionbio(&tap, true).map_err(failed)?;
    Ok(tap.into())
}

/// A connection, and another handle on it.
fn connect(backend: Source) -> io::Result<(UnixStream, UnixStream)> {
    let stream = match backend {
        Source::Fd(fd) => fd.take()?.into(),
        Source::Path(path) => UnixStream::connect(path)?,
    };
    Ok((stream.try_clone()?, stream))
}
