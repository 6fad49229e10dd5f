//! What the guest's driver negotiates with.

use std::cell::OnceCell;
use std::io;
use std::os::unix::net::UnixStream;

use event_manager::MutEventSubscriber;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ids::VIRTIO_ID_FS;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::backend::Backend;
use super::watch::Watch;
use crate::devices::virtio::device::{ActivateError, Activation, VirtioDevice};
use crate::exit::ExitReason;
use crate::stop::Stop;

/// A high-priority queue and one for requests (virtio 1.3, 5.11.2). The latter
/// has to hold the descriptors of the largest request, 1 MiB by page.
const QUEUE_SIZES: [u16; 2] = [128, 512];

/// Features that only concern the rings, and that we know how to carry.
const RING_FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX;

/// Size of the tag in the configuration space (virtio 1.3, 5.11.4).
const TAG_SIZE: usize = 36;
const CONFIG_SIZE: usize = TAG_SIZE + 4;

/// A shared file system.
pub struct Fs {
    tag: String,
    config: [u8; CONFIG_SIZE],
    stream: UnixStream,
    stop: Stop,
    /// Greeted when the guest first asks for the features, on a vCPU's thread:
    /// while the backend starts up, the guest's kernel can boot. Nothing, if
    /// that failed.
    backend: OnceCell<Option<Backend>>,
}

impl Fs {
    /// A file system which the guest mounts by `tag`, served by the backend at
    /// the other end of `stream`. `stop` is requested when that is lost.
    ///
    /// # Panics
    ///
    /// If the tag has more than 36 bytes.
    pub fn new(tag: String, stream: UnixStream, stop: Stop) -> Self {
        let mut config = [0; CONFIG_SIZE];
        config[..tag.len()].copy_from_slice(tag.as_bytes());
        let request_queues = QUEUE_SIZES.len() as u32 - 1;
        config[TAG_SIZE..].copy_from_slice(&request_queues.to_le_bytes());
        Self {
            tag,
            config,
            stream,
            stop,
            backend: OnceCell::new(),
        }
    }

    fn greet(&self) -> Option<Backend> {
        let greet = || {
            Backend::greet(self.stream.try_clone()?, QUEUE_SIZES.len()).map_err(io::Error::other)
        };
        greet()
            .inspect_err(|error| self.lost(error.to_string()))
            .ok()
    }

    fn lost(&self, detail: String) {
        self.stop.request(ExitReason::FsBackendLost {
            tag: self.tag.clone(),
            detail,
        });
    }
}

impl VirtioDevice for Fs {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_FS
    }

    fn features(&self) -> u64 {
        let backend = self.backend.get_or_init(|| self.greet());
        backend
            .as_ref()
            .map_or(0, |backend| backend.features() & RING_FEATURES)
    }

    fn max_queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        data.fill(0);
        for (to, from) in data.iter_mut().zip(self.config.iter().skip(start)) {
            *to = *from;
        }
    }

    fn activate(
        &mut self,
        activation: Activation,
    ) -> Result<Box<dyn MutEventSubscriber + Send>, ActivateError> {
        // The features were read, or none would have been accepted.
        let Some(Some(backend)) = self.backend.get_mut() else {
            return Err(ActivateError::Io(io::ErrorKind::NotConnected.into()));
        };
        if let Err(error) = backend.start(&activation) {
            self.lost(error.to_string());
            return Err(error.into());
        }
        let stream = self.stream.try_clone()?;
        Ok(Box::new(Watch {
            stream,
            tag: self.tag.clone(),
            stop: self.stop.clone(),
        }))
    }

    fn reset(&mut self) {
        if let Some(Some(backend)) = self.backend.get_mut()
            && let Err(error) = backend.stop(QUEUE_SIZES.len())
        {
            self.lost(error.to_string());
        }
    }
}
