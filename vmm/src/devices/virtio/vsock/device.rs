//! The device before its driver is up.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use event_manager::MutEventSubscriber;
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::QueueT;

use super::backend;
use super::muxer::Muxer;
use super::queue_handler::QueueHandler;
use crate::devices::virtio::device::{ActivateError, Activation, ActiveQueue, VirtioDevice};

/// Stream sockets are supported (virtio 1.3, 5.10.3).
const F_STREAM: u64 = 1 << 0;

/// Receive, transmit and event queue (virtio 1.3, 5.10.2). Linux fills the first
/// with buffers of a page each as it starts.
const QUEUE_SIZES: [u16; 3] = [64, 64, 4];

/// A virtio socket device whose other end is a Unix socket.
#[derive(Debug)]
pub struct Vsock {
    guest_cid: u64,
    path: PathBuf,
    listener: UnixListener,
}

/// The Unix socket cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {}", path.display())]
pub struct ListenError {
    /// Where.
    path: PathBuf,
    /// Why not.
    source: io::Error,
}

impl Vsock {
    /// A device for the guest with context id `guest_cid`, none of the reserved
    /// ones. It is reached at the Unix socket `path`, from now on: a program
    /// that connects waits for the guest. Whoever owns the directory removes the socket in the end.
    ///
    /// What the guest connects to is looked up at `path` with `_<port>`
    /// appended when it does. A relative path is taken from the working
    /// directory of that moment.
    pub fn new(guest_cid: u64, path: &Path) -> Result<Self, ListenError> {
        let listener = backend::listen(path).map_err(|source| ListenError {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            guest_cid,
            path: path.to_owned(),
            listener,
        })
    }

    /// What runs the device with what was negotiated.
    pub(super) fn start(&self, activation: Activation) -> Result<QueueHandler, ActivateError> {
        let event_idx = activation.features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        let [rx, tx, _event] = ready_queues(activation.queues, event_idx)?;
        let listener = self.listener.try_clone()?;
        let muxer = Muxer::new(self.guest_cid, listener, self.path.clone())?;
        let Activation {
            memory, interrupt, ..
        } = activation;
        Ok(QueueHandler::new(memory, interrupt, rx, tx, muxer))
    }
}

impl VirtioDevice for Vsock {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    fn features(&self) -> u64 {
        F_STREAM | 1 << VIRTIO_RING_F_EVENT_IDX
    }

    fn max_queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.guest_cid.to_le_bytes();
        data.fill(0);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (to, from) in data.iter_mut().zip(config.iter().skip(start)) {
            *to = *from;
        }
    }

    fn activate(
        &mut self,
        activation: Activation,
    ) -> Result<Box<dyn MutEventSubscriber + Send>, ActivateError> {
        Ok(Box::new(self.start(activation)?))
    }

    /// Nothing to do: the connections went with the handler, and the listener
    /// keeps those that have not been accepted.
    fn reset(&mut self) {}
}

fn ready_queues(
    queues: Vec<ActiveQueue>,
    event_idx: bool,
) -> Result<[ActiveQueue; QUEUE_SIZES.len()], ActivateError> {
    let unready = queues.iter().position(|queue| !queue.queue.ready());
    if let Some(index) = unready {
        return Err(ActivateError::QueueNotReady { index });
    }
    let mut queues: [ActiveQueue; QUEUE_SIZES.len()] =
        queues
            .try_into()
            .map_err(|queues: Vec<_>| ActivateError::QueueNotReady {
                index: queues.len(),
            })?;
    for queue in &mut queues {
        queue.queue.set_event_idx(event_idx);
    }
    Ok(queues)
}
