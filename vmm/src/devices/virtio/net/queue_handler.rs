//! A pair of queues at work: frames between them and a tap.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use virtio_queue::{QueueOwnedT, QueueT};
use vmm_sys_util::eventfd::EventFd;

use super::buffers::{self, Buffer, BufferError, Room};
use super::frame::{FRAME_MAX, HEADER_SIZE, NUM_BUFFERS, is_plausible};
use crate::devices::virtio::device::ActiveQueue;
use crate::devices::virtio::interrupt::Interrupt;
use crate::memory::GuestMemory;

const RX_KICK: u32 = 0;
const TX_KICK: u32 = 1;
const TAP: u32 = 2;

/// Why the device waits for a reset.
#[derive(Debug, thiserror::Error)]
enum HandlerError {
    /// The driver has put nonsense into a ring.
    #[error("broken ring")]
    Ring(#[from] virtio_queue::Error),
    /// The driver has made available what holds no frame, or no room for one.
    #[error("bad chain of descriptors")]
    Buffer(#[from] BufferError),
    /// The event loop cannot watch the device.
    #[error("cannot join the event loop")]
    EventLoop(#[from] event_manager::Error),
}

/// Owns a pair of queues of an active device.
pub(super) struct QueueHandler {
    memory: GuestMemory,
    interrupt: Interrupt,
    rx: ActiveQueue,
    tx: ActiveQueue,
    tap: File,
    /// Whether the event loop watches the tap: not while the driver has no room.
    tap_is_watched: bool,
    /// Whether there is nothing to be heard from the tap any more.
    tap_is_gone: bool,
    /// A frame from the tap that waits for room; empty if there is none.
    waiting: Vec<u8>,
    /// The room that there is for it so far.
    room: Room,
    /// Where frames pass through: a guest could change them while they are looked
    /// at.
    buffer: Vec<u8>,
}

impl QueueHandler {
    pub(super) fn new(
        memory: GuestMemory,
        interrupt: Interrupt,
        rx: ActiveQueue,
        tx: ActiveQueue,
        tap: File,
    ) -> Self {
        Self {
            memory,
            interrupt,
            rx,
            tx,
            tap,
            tap_is_watched: false,
            tap_is_gone: false,
            waiting: Vec::new(),
            room: Room::default(),
            buffer: vec![0; FRAME_MAX],
        }
    }

    fn handle(&mut self, event: u32, ops: &mut EventOps) -> Result<(), HandlerError> {
        match event {
            TX_KICK => {
                // A kick that is not there any more has been seen already.
                let _ = self.tx.kick.read();
                self.send()
            }
            RX_KICK => {
                let _ = self.rx.kick.read();
                self.receive(ops)
            }
            _ => self.receive(ops),
        }
    }

    /// Frames from the guest, at most a queue's worth, so that a busy guest cannot
    /// keep other devices waiting.
    fn send(&mut self) -> Result<(), HandlerError> {
        let mut used = false;
        let ActiveQueue { queue, kick } = &mut self.tx;
        queue.disable_notification(&self.memory)?;
        let mut left = queue.size();
        loop {
            while left > 0
                && let Some(chain) = queue.iter(&self.memory)?.next()
            {
                let head = chain.head_index();
                let len = buffers::copy_from(&self.memory, chain, &mut self.buffer)?;
                let frame = &self.buffer[..len];
                if is_plausible(frame) {
                    // A tap that is full, down or gone loses frames, as wires do.
                    let _ = self.tap.write(frame);
                }
                queue.add_used(&self.memory, head, 0)?;
                (used, left) = (true, left - 1);
            }
            if left == 0 {
                come_back(kick);
                break;
            }
            if !queue.enable_notification(&self.memory)? {
                break;
            }
        }
        if used && queue.needs_notification(&self.memory)? {
            self.interrupt.signal_used_queue();
        }
        Ok(())
    }

    /// Frames to the guest, at most a queue's worth. Without room for them the tap
    /// is not watched until the driver says that there is some.
    fn receive(&mut self, ops: &mut EventOps) -> Result<(), HandlerError> {
        let mut used = 0;
        let mut most = 0;
        let mut has_room = true;
        for _ in 0..self.rx.queue.size() {
            if self.waiting.is_empty() && !self.read_tap() {
                break;
            }
            let buffers = self.deliver_or_wait()?;
            has_room = buffers > 0;
            if !has_room {
                break;
            }
            (used, most) = (used + buffers, most.max(buffers));
        }
        self.watch_tap(has_room && !self.tap_is_gone, ops)?;
        // The queue counts what is used together as one: it cannot tell then.
        if most > 1 || used > 0 && self.rx.queue.needs_notification(&self.memory)? {
            self.interrupt.signal_used_queue();
        }
        Ok(())
    }

    /// Takes a frame from the tap. False if there is none.
    fn read_tap(&mut self) -> bool {
        match self.tap.read(&mut self.buffer) {
            Ok(len) if len > HEADER_SIZE => {
                self.waiting.extend_from_slice(&self.buffer[..len]);
                return true;
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                // The interface was removed under us; it would be ready for ever.
                log::warn!("the tap is gone: {error}");
                self.tap_is_gone = true;
            }
        }
        false
    }

    /// Delivers the frame that waits, and tells how many buffers it took: none if
    /// the driver has no room, which it will tell when it has.
    fn deliver_or_wait(&mut self) -> Result<usize, HandlerError> {
        self.rx.queue.disable_notification(&self.memory)?;
        while !self.room.holds(self.waiting.len()) {
            let chain = self.rx.queue.iter(&self.memory)?.next();
            match chain {
                Some(chain) => self.room.add(Buffer::of(chain)?, self.rx.queue.size())?,
                None if self.rx.queue.enable_notification(&self.memory)? => {}
                None => return Ok(0),
            }
        }
        self.deliver()
    }

    /// Writes the frame that waits to as many buffers as it takes, and hands them
    /// over together (virtio 1.3, 5.1.6.4).
    fn deliver(&mut self) -> Result<usize, HandlerError> {
        let buffers = self.room.take();
        let count = u16::try_from(buffers.len()).unwrap_or(u16::MAX);
        self.waiting[NUM_BUFFERS..HEADER_SIZE].copy_from_slice(&count.to_le_bytes());
        let mut rest = self.waiting.as_slice();
        let mut filled = Vec::new();
        for buffer in buffers {
            let len = buffer.fill(&self.memory, rest)?;
            rest = &rest[len..];
            filled.push((buffer.head, len as u32));
        }
        buffers::use_together(&mut self.rx.queue, &self.memory, &filled)?;
        self.waiting.clear();
        Ok(filled.len())
    }

    fn watch_tap(&mut self, wanted: bool, ops: &mut EventOps) -> Result<(), HandlerError> {
        if wanted == self.tap_is_watched {
            return Ok(());
        }
        let tap = Events::with_data_raw(self.tap.as_raw_fd(), TAP, EventSet::IN);
        if wanted {
            ops.add(tap)?;
        } else {
            ops.remove(tap)?;
        }
        self.tap_is_watched = wanted;
        Ok(())
    }

    fn kicks(&self) -> [(RawFd, u32); 2] {
        [
            (self.rx.kick.as_raw_fd(), RX_KICK),
            (self.tx.kick.as_raw_fd(), TX_KICK),
        ]
    }

    fn join(&mut self, ops: &mut EventOps) -> Result<(), HandlerError> {
        for (fd, event) in self.kicks() {
            ops.add(Events::with_data_raw(fd, event, EventSet::IN))?;
        }
        self.watch_tap(true, ops)
    }

    /// Stops until the driver resets the device.
    fn fail(&mut self, error: &HandlerError, ops: &mut EventOps) {
        log::warn!("net needs a reset: {}", crate::with_causes(error));
        for (fd, event) in self.kicks() {
            // It fails for what was never added.
            let _ = ops.remove(Events::with_data_raw(fd, event, EventSet::IN));
        }
        let _ = self.watch_tap(false, ops);
        self.interrupt.signal_needs_reset();
    }
}

impl MutEventSubscriber for QueueHandler {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = self.join(ops) {
            self.fail(&error, ops);
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if let Err(error) = self.handle(events.data(), ops) {
            self.fail(&error, ops);
        }
    }
}

/// Lets other devices have their turn before this one goes on.
fn come_back(kick: &EventFd) {
    // It fails if the counter is full: that is a kick, too.
    let _ = kick.write(1);
}
