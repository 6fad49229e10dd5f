//! The conversation with the backend (vhost-user protocol, QEMU's
//! `docs/interop/vhost-user.rst`).

use std::os::unix::net::UnixStream;

use vhost::vhost_user::message::{
    VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{Error, VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_queue::QueueT;
use vm_memory::{GuestAddress, GuestMemory as _};

use crate::devices::virtio::device::{Activation, ActiveQueue};
use crate::memory::GuestMemory;

/// The bit by which a backend says that it has protocol features. It is not one
/// of the guest's.
const PROTOCOL_FEATURES: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// A backend that has told what it can.
pub(super) struct Backend {
    frontend: Frontend,
    features: u64,
}

impl Backend {
    /// Takes the backend into service. Blocks until it answers, or is gone.
    pub(super) fn greet(stream: UnixStream, queues: usize) -> Result<Self, Error> {
        let mut frontend = Frontend::from_stream(stream, queues as u64);
        frontend.set_owner()?;
        let features = frontend.get_features()?;
        if features & PROTOCOL_FEATURES != 0 {
            let offered = frontend.get_protocol_features()?;
            frontend.set_protocol_features(offered & VhostUserProtocolFeatures::REPLY_ACK)?;
        }
        Ok(Self { frontend, features })
    }

    /// The virtio features on offer.
    pub(super) fn features(&self) -> u64 {
        self.features & !PROTOCOL_FEATURES
    }

    /// Gives the backend memory, queues and interrupt, and sets it to work.
    ///
    /// Only the last message waits for its acknowledgement: messages are
    /// handled in their order, and a backend that cannot handle one hangs up.
    pub(super) fn start(&mut self, activation: &Activation) -> Result<(), Error> {
        self.frontend
            .set_features(activation.features | self.features & PROTOCOL_FEATURES)?;
        self.frontend.set_mem_table(&regions(&activation.memory)?)?;
        let interrupt = activation.interrupt.share_line();
        for (index, active) in activation.queues.iter().enumerate() {
            let ActiveQueue { queue, kick } = active;
            self.frontend.set_vring_num(index, queue.size())?;
            self.frontend.set_vring_base(index, 0)?;
            self.frontend
                .set_vring_addr(index, &addresses(&activation.memory, queue)?)?;
            self.frontend.set_vring_call(index, interrupt)?;
            self.frontend.set_vring_kick(index, kick)?;
        }
        self.enable(activation.queues.len(), true)
    }

    /// Stops the queues: afterwards the backend touches none of them.
    pub(super) fn stop(&mut self, queues: usize) -> Result<(), Error> {
        self.enable(queues, false)?;
        (0..queues).try_for_each(|index| self.frontend.get_vring_base(index).map(drop))
    }

    /// Without protocol features queues are enabled all the time.
    fn enable(&mut self, queues: usize, enable: bool) -> Result<(), Error> {
        if self.features & PROTOCOL_FEATURES == 0 {
            return Ok(());
        }
        for index in 0..queues {
            if index + 1 == queues {
                self.frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
            }
            self.frontend.set_vring_enable(index, enable)?;
        }
        self.frontend.set_hdr_flags(VhostUserHeaderFlag::empty());
        Ok(())
    }
}

fn regions(memory: &GuestMemory) -> Result<Vec<VhostUserMemoryRegionInfo>, Error> {
    memory
        .iter()
        .map(VhostUserMemoryRegionInfo::from_guest_region)
        .collect()
}

/// Where a queue's rings are, in this process's address space: the backend
/// finds them by the regions it was told.
fn addresses(memory: &GuestMemory, queue: &virtio_queue::Queue) -> Result<VringConfigData, Error> {
    let host = |address: u64, error: fn() -> Error| {
        memory
            .get_host_address(GuestAddress(address))
            .map(|host| host as u64)
            .map_err(|_| error())
    };
    Ok(VringConfigData {
        queue_max_size: queue.max_size(),
        queue_size: queue.size(),
        flags: 0,
        desc_table_addr: host(queue.desc_table(), || Error::DescriptorTableAddress)?,
        used_ring_addr: host(queue.used_ring(), || Error::UsedAddress)?,
        avail_ring_addr: host(queue.avail_ring(), || Error::AvailAddress)?,
        log_addr: None,
    })
}
