//! The control queue (virtio 1.3, 5.1.6.5), by which the driver of a device with several
//! pairs of queues says how many it uses: all, or it is refused.
//!
//! Fewer would have to be told to the tap, where each change waits for the whole host's
//! network stack: nothing that a guest may order.

use std::os::fd::AsRawFd;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_OK,
};
use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::buffers::BufferError;
use crate::devices::virtio::device::ActiveQueue;
use crate::devices::virtio::interrupt::Interrupt;
use crate::memory::GuestMemory;

/// Length of the one command that there is: class, command, and a number of pairs.
const COMMAND_SIZE: usize = 4;

/// Why the device waits for a reset.
#[derive(Debug, thiserror::Error)]
enum ControlError {
    /// The driver has put nonsense into the ring.
    #[error("broken control ring")]
    Ring(#[from] virtio_queue::Error),
    /// There is no command, or no room for the answer.
    #[error("bad chain of descriptors")]
    Buffer(#[from] BufferError),
    /// The event loop cannot watch the queue.
    #[error("cannot join the event loop")]
    EventLoop(#[from] event_manager::Error),
}

/// Takes the driver's orders, on the event loop's thread.
pub(super) struct ControlHandler {
    memory: GuestMemory,
    interrupt: Interrupt,
    control: ActiveQueue,
    /// How many pairs of queues there are.
    pairs: usize,
}

impl ControlHandler {
    pub(super) fn new(
        memory: GuestMemory,
        interrupt: Interrupt,
        control: ActiveQueue,
        pairs: usize,
    ) -> Self {
        Self {
            memory,
            interrupt,
            control,
            pairs,
        }
    }

    /// Orders from the driver, at most a queue's worth.
    fn handle(&mut self) -> Result<(), ControlError> {
        // A kick that is not there any more has been seen already.
        let _ = self.control.kick.read();
        for _ in 0..self.control.queue.size() {
            let Some(chain) = self.control.queue.iter(&self.memory)?.next() else {
                break;
            };
            let head = chain.head_index();
            let (command, answer_at) = parse(&self.memory, chain)?;
            let answer = self.answer(command);
            self.memory
                .write_obj(answer, answer_at)
                .map_err(BufferError::OutsideMemory)?;
            self.control.queue.add_used(&self.memory, head, 1)?;
            if self.control.queue.needs_notification(&self.memory)? {
                self.interrupt.signal_used_queue();
            }
        }
        Ok(())
    }

    fn answer(&self, command: Option<[u8; COMMAND_SIZE]>) -> u8 {
        let answer = match command.and_then(pairs_to_use) {
            Some(pairs) if pairs == self.pairs => VIRTIO_NET_OK,
            _ => VIRTIO_NET_ERR,
        };
        answer as u8
    }

    fn kick(&self) -> Events {
        Events::new_raw(self.control.kick.as_raw_fd(), EventSet::IN)
    }

    /// Stops until the driver resets the device.
    fn fail(&mut self, error: &ControlError, ops: &mut EventOps) {
        log::warn!("net needs a reset: {}", crate::with_causes(error));
        // It fails for what was never added.
        let _ = ops.remove(self.kick());
        self.interrupt.signal_needs_reset();
    }
}

impl MutEventSubscriber for ControlHandler {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(self.kick()) {
            self.fail(&error.into(), ops);
        }
    }

    fn process(&mut self, _events: Events, ops: &mut EventOps) {
        if let Err(error) = self.handle() {
            self.fail(&error, ops);
        }
    }
}

/// The command that a chain holds, unless it has another length than ours, and where the answer
/// goes.
fn parse(
    memory: &GuestMemory,
    chain: DescriptorChain<&GuestMemory>,
) -> Result<(Option<[u8; COMMAND_SIZE]>, GuestAddress), BufferError> {
    let mut command = [0; COMMAND_SIZE];
    let mut fits = true;
    let mut len = 0;
    for descriptor in chain {
        let part = descriptor.len() as usize;
        if descriptor.is_write_only() {
            return match part {
                0 => Err(BufferError::TooShort { len: part }),
                _ => Ok((
                    (fits && len == COMMAND_SIZE).then_some(command),
                    descriptor.addr(),
                )),
            };
        }
        match command.get_mut(len..len + part) {
            Some(room) => memory.read_slice(room, descriptor.addr())?,
            None => fits = false,
        }
        len = (len + part).min(COMMAND_SIZE);
    }
    Err(BufferError::WrongDirection)
}

/// How many pairs a command asks for, if that is what it is.
fn pairs_to_use(command: [u8; COMMAND_SIZE]) -> Option<usize> {
    let [class, command, low, high] = command;
    let is_ours = u32::from(class) == VIRTIO_NET_CTRL_MQ
        && u32::from(command) == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
    is_ours.then(|| usize::from(u16::from_le_bytes([low, high])))
}
