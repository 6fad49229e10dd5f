//! The loop on which devices handle their events: that of the VMM's main thread, or
//! a [worker](crate::workers)'s.

use event_manager::{
    EventManager, MutEventSubscriber, RemoteEndpoint, SubscriberId, SubscriberOps,
};

/// A handler of events.
pub type Handler = Box<dyn MutEventSubscriber + Send>;

/// The loop.
pub struct EventLoop(EventManager<Handler>);

/// A handle for other threads.
#[derive(Clone)]
pub struct EventLoopHandle(RemoteEndpoint<Handler>);

/// A handler on the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandlerId(SubscriberId);

/// The loop, or the way to it, failed.
#[derive(Debug, thiserror::Error)]
#[error("the event loop failed")]
pub struct EventLoopError(#[from] event_manager::Error);

impl EventLoopError {
    /// The cause in one line.
    pub fn detail(&self) -> String {
        self.0.to_string()
    }
}

impl EventLoop {
    /// Makes a loop without handlers.
    pub fn new() -> Result<Self, EventLoopError> {
        Ok(Self(EventManager::new()?))
    }

    /// Adds a handler.
    pub fn add(&mut self, handler: Handler) {
        self.0.add_subscriber(handler);
    }

    /// A handle for other threads.
    pub fn handle(&self) -> EventLoopHandle {
        EventLoopHandle(self.0.remote_endpoint())
    }

    /// Waits for events and handles them, once.
    pub fn run_once(&mut self) -> Result<(), EventLoopError> {
        self.0.run()?;
        Ok(())
    }
}

impl EventLoopHandle {
    /// Moves a handler onto the loop. Blocks until it is there, so it must not
    /// be called on the loop's thread.
    pub fn add(&self, handler: Handler) -> Result<HandlerId, EventLoopError> {
        self.0
            .call_blocking(|ops| Ok(HandlerId(ops.add_subscriber(handler))))
    }

    /// Takes a handler off the loop and drops it. Blocks as [`add`](Self::add)
    /// does.
    pub fn remove(&self, handler: HandlerId) -> Result<(), EventLoopError> {
        self.0.call_blocking(move |ops| {
            ops.remove_subscriber(handler.0)?;
            Ok(())
        })
    }

    /// Makes [`EventLoop::run_once`] return.
    pub fn wake(&self) {
        // Fails only when the counter is full: the loop is then awake.
        let _ = self.0.kick();
    }
}
