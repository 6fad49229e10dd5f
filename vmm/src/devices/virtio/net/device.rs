//! The device before its driver is up.

use std::fs::File;

use event_manager::MutEventSubscriber;
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

use super::control::ControlHandler;
use super::queue_handler::QueueHandler;
use crate::devices::virtio::device::{ActivateError, Activation, VirtioDevice};
use crate::event_loop::{EventLoopHandle, HandlerId};

/// Of a queue for frames.
const QUEUE_SIZE: u16 = 256;
const CONTROL_QUEUE_SIZE: u16 = 16;

/// What the driver must be able to take: the tap, whose offloads are set when it
/// is made, passes on whatever the host's kernel has put together.
const REQUIRED: u64 = 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_GUEST_TSO4
    | 1 << VIRTIO_NET_F_GUEST_TSO6
    | 1 << VIRTIO_NET_F_MRG_RXBUF;

/// What the driver of a device with several pairs of queues must be able to use, too.
const REQUIRED_OF_SEVERAL: u64 = 1 << VIRTIO_NET_F_CTRL_VQ | 1 << VIRTIO_NET_F_MQ;

/// What the driver may leave to the host's kernel.
const OFFERED: u64 = 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_TSO6
    | 1 << VIRTIO_NET_F_MAC
    | 1 << VIRTIO_RING_F_EVENT_IDX;

/// A network interface whose other end is a tap.
pub struct Net {
    mac: [u8; 6],
    mtu: Option<u16>,
    /// One for each pair of queues.
    taps: Vec<File>,
    /// One for each pair of queues, if there are several.
    workers: Vec<EventLoopHandle>,
    /// The handlers of an active device that workers have.
    served: Vec<(EventLoopHandle, HandlerId)>,
    /// Receive and transmit queues in turn, then the control queue of several pairs.
    queue_sizes: Vec<u16>,
}

impl Net {
    /// A device with a pair of queues for each of `taps`, which are the queues of one
    /// tap with virtio headers of 12 bytes (`IFF_VNET_HDR`, `TUNSETVNETHDRSZ`), and with
    /// checksum and TSO offloads (`TUNSETOFFLOAD`), and do not block. If there are several,
    /// there must be as many `workers`.
    pub fn new(
        mac: [u8; 6],
        mtu: Option<u16>,
        taps: Vec<File>,
        workers: &[EventLoopHandle],
    ) -> Self {
        let several = taps.len() > 1;
        debug_assert!(!several || workers.len() >= taps.len());
        let mut queue_sizes = vec![QUEUE_SIZE; 2 * taps.len()];
        queue_sizes.extend(several.then_some(CONTROL_QUEUE_SIZE));
        Self {
            mac,
            mtu,
            taps,
            workers: workers.to_vec(),
            served: Vec::new(),
            queue_sizes,
        }
    }

    fn has_several_pairs(&self) -> bool {
        self.taps.len() > 1
    }

    fn required_features(&self) -> u64 {
        if self.has_several_pairs() {
            REQUIRED | REQUIRED_OF_SEVERAL
        } else {
            REQUIRED
        }
    }

    /// `struct virtio_net_config` (virtio 1.3, 5.1.4), up to the MTU.
    fn config(&self) -> [u8; 12] {
        let mut config = [0; 12];
        config[..6].copy_from_slice(&self.mac);
        config[8..10].copy_from_slice(&(self.taps.len() as u16).to_le_bytes());
        config[10..].copy_from_slice(&self.mtu.unwrap_or_default().to_le_bytes());
        config
    }
}

impl VirtioDevice for Net {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn features(&self) -> u64 {
        let mtu = u64::from(self.mtu.is_some()) << VIRTIO_NET_F_MTU;
        self.required_features() | OFFERED | mtu
    }

    fn max_queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.config();
        let rest = usize::try_from(offset).ok().and_then(|at| config.get(at..));
        let rest = rest.unwrap_or_default();
        let len = rest.len().min(data.len());
        data.fill(0);
        data[..len].copy_from_slice(&rest[..len]);
    }

    fn activate(
        &mut self,
        activation: Activation,
    ) -> Result<Box<dyn MutEventSubscriber + Send>, ActivateError> {
        let missing = self.required_features() & !activation.features;
        if missing != 0 {
            return Err(ActivateError::MissingFeatures { missing });
        }
        let Activation {
            memory,
            queues,
            interrupt,
            ..
        } = activation;
        let mut queues = queues.into_iter();
        let mut take = |index| {
            let queue = queues.next();
            queue.ok_or(ActivateError::QueueNotReady { index })
        };
        let mut handlers = Vec::with_capacity(self.taps.len());
        for (pair, tap) in self.taps.iter().enumerate() {
            let (rx, tx) = (take(2 * pair)?, take(2 * pair + 1)?);
            let (memory, interrupt) = (memory.clone(), interrupt.clone());
            handlers.push(QueueHandler::new(
                memory,
                interrupt,
                rx,
                tx,
                tap.try_clone()?,
            ));
        }
        if !self.has_several_pairs() {
            let handler = handlers.pop();
            let handler = handler.ok_or(ActivateError::QueueNotReady { index: 0 })?;
            return Ok(Box::new(handler));
        }
        let control = take(2 * handlers.len())?;
        let pairs = handlers.len();
        for (worker, handler) in self.workers.iter().zip(handlers) {
            // One is gone only when the microVM is being stopped.
            if let Ok(id) = worker.add(Box::new(handler)) {
                self.served.push((worker.clone(), id));
            }
        }
        Ok(Box::new(ControlHandler::new(
            memory, interrupt, control, pairs,
        )))
    }

    fn reset(&mut self) {
        for (worker, handler) in self.served.drain(..) {
            // Fails only when the worker is gone, and the handler with it.
            let _ = worker.remove(handler);
        }
    }
}
