//! What a virtio device is to the transport that carries it.

use event_manager::MutEventSubscriber;
use virtio_queue::Queue;
use vmm_sys_util::eventfd::EventFd;

use super::interrupt::Interrupt;
use crate::memory::GuestMemory;

/// The part of a device that exists before a driver has set it up: identity,
/// feature negotiation and configuration space.
///
/// Once the driver is done, [`activate`](Self::activate) turns what was
/// negotiated into a handler that owns the queues, or into several, on workers. They run on
/// the event loops' threads and share nothing with the registers, so that what
/// the guest writes to them later cannot change a queue in use
/// (virtio 1.3, 2.6.1 asks the driver not to; we do not rely on it).
pub trait VirtioDevice: Send {
    /// Device id (virtio 1.3, section 5).
    fn device_type(&self) -> u32;

    /// Feature bits on offer, apart from those of the transport.
    fn features(&self) -> u64;

    /// Greatest size of each queue; as many queues as entries.
    fn max_queue_sizes(&self) -> &[u16];

    /// Reads the configuration space; bytes beyond its end read as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Starts the device. Called on a vCPU thread when the driver sets
    /// `DRIVER_OK`, at most once before a [`reset`](Self::reset).
    fn activate(
        &mut self,
        activation: Activation,
    ) -> Result<Box<dyn MutEventSubscriber + Send>, ActivateError>;

    /// Back to the state before activation. The transport has already taken
    /// the handler off the event loop and dropped it.
    fn reset(&mut self);
}

/// What the driver and the device have agreed on.
#[derive(Debug)]
pub struct Activation {
    /// The guest's memory.
    pub memory: GuestMemory,
    /// Feature bits the driver accepted, a subset of those offered.
    pub features: u64,
    /// The queues, validated against `memory`, in the order of
    /// [`VirtioDevice::max_queue_sizes`].
    pub queues: Vec<ActiveQueue>,
    /// Raises the device's interrupt.
    pub interrupt: Interrupt,
}

/// A queue that the driver has made ready.
#[derive(Debug)]
pub struct ActiveQueue {
    /// Its rings.
    pub queue: Queue,
    /// Signalled when the driver has made buffers available (an ioeventfd).
    pub kick: EventFd,
}

/// Why a device could not be started. The transport then sets
/// `DEVICE_NEEDS_RESET`.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// The driver left a queue unready that the device cannot do without.
    #[error("queue {index} is not ready")]
    QueueNotReady {
        /// Index of the queue.
        index: usize,
    },
    /// The driver declined what the device cannot do without.
    #[error("the driver lacks features {missing:#x}")]
    MissingFeatures {
        /// Their bits.
        missing: u64,
    },
    /// A host resource failed.
    #[error("cannot start the device")]
    Io(#[from] std::io::Error),
    /// The vhost-user backend refused or is gone.
    #[error("cannot set up the vhost-user backend")]
    VhostUser(#[from] vhost::Error),
}
