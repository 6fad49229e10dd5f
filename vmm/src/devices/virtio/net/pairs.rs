//! Several pairs of queues, each on the loop of a worker.

use std::io;
use std::sync::{Arc, Mutex};

use super::queue_handler::QueueHandler;
use super::tap::Tap;
use crate::event_loop::{EventLoopHandle, HandlerId};

/// The pairs of a device. None is served at first.
pub(super) struct Pairs(Vec<Pair>);

pub(super) struct Pair {
    handler: Arc<Mutex<QueueHandler>>,
    /// For orders to the kernel; frames pass by the handler's.
    tap: Tap,
    is_attached: bool,
    worker: EventLoopHandle,
    served: Option<HandlerId>,
}

impl Pairs {
    pub(super) fn new(pairs: Vec<Pair>) -> Self {
        Self(pairs)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Serves the first `count` pairs, and no others.
    ///
    /// If the kernel does not do what it is told with a tap, the others are as they should
    /// be nevertheless.
    pub(super) fn serve(&mut self, count: usize) -> io::Result<()> {
        let mut result = Ok(());
        for (index, pair) in self.0.iter_mut().enumerate() {
            result = result.and(pair.serve(index < count));
        }
        result
    }
}

impl Pair {
    pub(super) fn new(handler: QueueHandler, tap: Tap, worker: EventLoopHandle) -> Self {
        Self {
            handler: Arc::new(Mutex::new(handler)),
            tap,
            is_attached: true,
            worker,
            served: None,
        }
    }

    /// A tap that is not attached must not be watched: it reports an error for ever.
    fn serve(&mut self, wanted: bool) -> io::Result<()> {
        if !wanted {
            self.leave();
        }
        if wanted != self.is_attached {
            self.tap.set_attached(wanted)?;
            self.is_attached = wanted;
        }
        if wanted && self.served.is_none() {
            // The worker is gone only when the microVM is being stopped.
            self.served = self.worker.add(Box::new(self.handler.clone())).ok();
        }
        Ok(())
    }

    /// Takes the handler off the worker's loop.
    fn leave(&mut self) {
        if let Some(handler) = self.served.take() {
            // Fails only when the worker is gone, and the handler with it.
            let _ = self.worker.remove(handler);
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.leave();
        if !self.is_attached
            && let Err(error) = self.tap.set_attached(true)
        {
            log::warn!("cannot use a tap's queue again: {error}");
        }
    }
}
