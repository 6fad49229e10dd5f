//! The request to stop the microVM, which any thread may make.

use std::sync::{Arc, OnceLock};

use crate::event_loop::EventLoopHandle;
use crate::exit::ExitReason;

/// Asks for the microVM to stop. A clone is another handle on the same request.
#[derive(Clone)]
pub struct Stop(Arc<Shared>);

struct Shared {
    reason: OnceLock<ExitReason>,
    event_loop: EventLoopHandle,
}

impl Stop {
    /// Nothing is requested yet. `event_loop` is woken when it is.
    pub fn new(event_loop: EventLoopHandle) -> Self {
        Self(Arc::new(Shared {
            reason: OnceLock::new(),
            event_loop,
        }))
    }

    /// Asks for a stop. Only the first reason counts.
    pub fn request(&self, reason: ExitReason) {
        let _ = self.0.reason.set(reason);
        self.0.event_loop.wake();
    }

    /// The reason, if a stop has been asked for.
    pub fn requested(&self) -> Option<&ExitReason> {
        self.0.reason.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_loop::EventLoop;

    #[test]
    fn first_reason_counts_and_wakes_the_loop() {
        let mut event_loop = EventLoop::new().unwrap();
        let stop = Stop::new(event_loop.handle());
        assert_eq!(stop.requested(), None);
        stop.request(ExitReason::Reset);
        stop.clone().request(ExitReason::PowerOff);
        event_loop.run_once().unwrap();
        assert_eq!(stop.requested(), Some(&ExitReason::Reset));
    }
}
