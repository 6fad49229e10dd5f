//! The device once its driver is up: moves packets between the queues and the
//! streams of the host, on the event loop's thread.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vmm_sys_util::eventfd::EventFd;

use super::buffer::{BufferError, RxBuffer, TxPacket};
use super::muxer::Muxer;
use crate::devices::virtio::device::ActiveQueue;
use crate::devices::virtio::interrupt::Interrupt;
use crate::memory::GuestMemory;

const RX_KICK: u32 = 0;
const TX_KICK: u32 = 1;
const STREAMS: u32 = 2;

/// Why the device waits for a reset.
#[derive(Debug, thiserror::Error)]
enum HandlerError {
    /// The driver has put nonsense into a ring.
    #[error("broken ring")]
    Ring(#[from] virtio_queue::Error),
    /// The driver has announced a chain that cannot be read.
    #[error("unreadable available ring")]
    UnreadableRing,
    /// The driver has made available what is no packet, or no room for one.
    #[error("bad chain of descriptors")]
    Buffer(#[from] BufferError),
    /// The host's sockets cannot be watched.
    #[error("cannot watch sockets")]
    Streams(#[source] io::Error),
    /// The event loop cannot watch the device.
    #[error("cannot join the event loop")]
    EventLoop(#[from] event_manager::Error),
}

/// Owns the queues of an active device.
///
/// The event queue is not among them: it only carries news of a changed
/// context id (virtio 1.3, 5.10.6.7), and the id does not change.
pub(super) struct QueueHandler {
    memory: GuestMemory,
    interrupt: Interrupt,
    rx: ActiveQueue,
    tx: ActiveQueue,
    muxer: Muxer,
}

impl QueueHandler {
    pub(super) fn new(
        memory: GuestMemory,
        interrupt: Interrupt,
        rx: ActiveQueue,
        tx: ActiveQueue,
        muxer: Muxer,
    ) -> Self {
        Self {
            memory,
            interrupt,
            rx,
            tx,
            muxer,
        }
    }

    /// How many streams of the host there are.
    #[cfg(test)]
    pub(super) fn streams(&self) -> usize {
        self.muxer.streams()
    }

    /// Handles one event, then moves all packets that can be moved.
    fn handle(&mut self, event: u32) -> Result<(), HandlerError> {
        // A kick that is not there any more has been seen already.
        match event {
            RX_KICK => drop(self.rx.kick.read()),
            TX_KICK => drop(self.tx.kick.read()),
            _ => self.muxer.poll().map_err(HandlerError::Streams)?,
        }
        let tx_used = self.process_tx()?;
        let rx_used = self.process_rx()?;
        let tx_signal = tx_used && self.tx.queue.needs_notification(&self.memory)?;
        let rx_signal = rx_used && self.rx.queue.needs_notification(&self.memory)?;
        if tx_signal || rx_signal {
            self.interrupt.signal_used_queue();
        }
        Ok(())
    }

    /// Takes packets from the guest, at most a queue's worth, so that a busy
    /// guest cannot keep other devices waiting. Whether there were any.
    fn process_tx(&mut self) -> Result<bool, HandlerError> {
        let ActiveQueue { queue, kick } = &mut self.tx;
        queue.disable_notification(&self.memory)?;
        for count in 0..queue.size() {
            if !self.muxer.accepts_packets() {
                // It goes on once there was room for the answers.
                return Ok(count > 0);
            }
            let Some(chain) = pop_or_wait(queue, &self.memory)? else {
                return Ok(count > 0);
            };
            let head = chain.head_index();
            self.muxer
                .handle(&TxPacket::from_chain(&self.memory, chain)?);
            queue.add_used(&self.memory, head, 0)?;
        }
        come_back(kick);
        Ok(true)
    }

    /// Gives packets to the guest, at most a queue's worth. Whether there were
    /// any.
    fn process_rx(&mut self) -> Result<bool, HandlerError> {
        let tx_was_stalled = !self.muxer.accepts_packets();
        let ActiveQueue { queue, kick } = &mut self.rx;
        queue.disable_notification(&self.memory)?;
        let mut used = false;
        let mut left = queue.size();
        while left > 0 && self.muxer.has_packets() {
            let Some(chain) = pop_or_wait(queue, &self.memory)? else {
                break;
            };
            let head = chain.head_index();
            let buffer = RxBuffer::from_chain(&self.memory, chain)?;
            let Some(len) = self.muxer.next_packet(&buffer) else {
                queue.go_to_previous_position();
                break;
            };
            queue.add_used(&self.memory, head, len)?;
            used = true;
            left -= 1;
        }
        if left == 0 {
            come_back(kick);
        }
        if tx_was_stalled && self.muxer.accepts_packets() {
            come_back(&self.tx.kick);
        }
        Ok(used)
    }

    fn join(ops: &mut EventOps, sources: &[(RawFd, u32)]) -> Result<(), HandlerError> {
        for &(fd, event) in sources {
            ops.add(Events::with_data_raw(fd, event, EventSet::IN))?;
        }
        Ok(())
    }

    fn sources(&self) -> [(RawFd, u32); 3] {
        [
            (self.rx.kick.as_raw_fd(), RX_KICK),
            (self.tx.kick.as_raw_fd(), TX_KICK),
            (self.muxer.as_raw_fd(), STREAMS),
        ]
    }

    /// Stops until the driver resets the device.
    fn fail(&mut self, error: &HandlerError, ops: &mut EventOps) {
        log::warn!("vsock needs a reset: {}", crate::with_causes(error));
        for (fd, event) in self.sources() {
            // It fails for what was never added.
            let _ = ops.remove(Events::with_data_raw(fd, event, EventSet::IN));
        }
        self.muxer.close();
        self.interrupt.signal_needs_reset();
    }
}

impl MutEventSubscriber for QueueHandler {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = Self::join(ops, &self.sources()) {
            self.fail(&error, ops);
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if let Err(error) = self.handle(events.data()) {
            self.fail(&error, ops);
        }
    }
}

/// The next chain that the driver has made available. If there is none, it
/// will tell when there is.
fn pop_or_wait<'a>(
    queue: &mut Queue,
    memory: &'a GuestMemory,
) -> Result<Option<DescriptorChain<&'a GuestMemory>>, HandlerError> {
    let is_empty = queue.avail_idx(memory, Ordering::Acquire)?.0 == queue.next_avail();
    if is_empty && !queue.enable_notification(memory)? {
        return Ok(None);
    }
    match queue.iter(memory)?.next() {
        Some(chain) => Ok(Some(chain)),
        None => Err(HandlerError::UnreadableRing),
    }
}

/// Lets other devices have their turn before this one goes on.
fn come_back(kick: &EventFd) {
    // It fails if the counter is full: that is a kick, too.
    let _ = kick.write(1);
}
