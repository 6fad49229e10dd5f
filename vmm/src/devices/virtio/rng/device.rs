//! The device before its driver is up.

use event_manager::MutEventSubscriber;
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;

use super::queue_handler::QueueHandler;
use crate::devices::virtio::device::{ActivateError, Activation, VirtioDevice};

const QUEUE_SIZES: [u16; 1] = [16];

/// Gives the guest random bytes of the host's.
#[derive(Debug)]
pub struct Rng;

impl VirtioDevice for Rng {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn features(&self) -> u64 {
        0
    }

    fn max_queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(
        &mut self,
        mut activation: Activation,
    ) -> Result<Box<dyn MutEventSubscriber + Send>, ActivateError> {
        let queue = activation
            .queues
            .pop()
            .ok_or(ActivateError::QueueNotReady { index: 0 })?;
        Ok(Box::new(QueueHandler::new(
            activation.memory,
            queue,
            activation.interrupt,
        )))
    }

    fn reset(&mut self) {}
}
