//! The device before its driver is up.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use event_manager::MutEventSubscriber;
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_MTU,
};

use super::queue_handler::QueueHandler;
use crate::devices::virtio::device::{ActivateError, Activation, VirtioDevice};

const QUEUE_SIZES: [u16; 2] = [256, 256];
const RX: usize = 0;
const TX: usize = 1;

/// What the driver must be able to take: the tap, whose offloads are set when it
/// is made, passes on whatever the host's kernel has put together.
const REQUIRED: u64 = 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_GUEST_TSO4
    | 1 << VIRTIO_NET_F_GUEST_TSO6
    | 1 << VIRTIO_NET_F_MRG_RXBUF;

/// What the driver may leave to the host's kernel.
const OFFERED: u64 = 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_TSO6
    | 1 << VIRTIO_NET_F_MAC;

/// A network interface whose other end is a tap.
#[derive(Debug)]
pub struct Net {
    mac: [u8; 6],
    mtu: Option<u16>,
    tap: File,
}

impl Net {
    /// `tap` is one with virtio headers of 12 bytes (`IFF_VNET_HDR`,
    /// `TUNSETVNETHDRSZ`), and with checksum and TSO offloads (`TUNSETOFFLOAD`).
    pub fn new(mac: [u8; 6], mtu: Option<u16>, tap: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&tap, true)?;
        Ok(Self {
            mac,
            mtu,
            tap: tap.into(),
        })
    }

    /// `struct virtio_net_config` (virtio 1.3, 5.1.4), up to the MTU.
    fn config(&self) -> [u8; 12] {
        let mut config = [0; 12];
        config[..6].copy_from_slice(&self.mac);
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
        REQUIRED | OFFERED | mtu
    }

    fn max_queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
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
        mut activation: Activation,
    ) -> Result<Box<dyn MutEventSubscriber + Send>, ActivateError> {
        let missing = REQUIRED & !activation.features;
        if missing != 0 {
            return Err(ActivateError::MissingFeatures { missing });
        }
        let mut take = |index| {
            let queue = activation.queues.pop();
            queue.ok_or(ActivateError::QueueNotReady { index })
        };
        let (tx, rx) = (take(TX)?, take(RX)?);
        let tap = self.tap.try_clone()?;
        Ok(Box::new(QueueHandler::new(
            activation.memory,
            activation.interrupt,
            rx,
            tx,
            tap,
        )))
    }

    fn reset(&mut self) {}
}
