//! Notices that a backend in service is gone.

use std::os::unix::net::UnixStream;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

use crate::exit::ExitReason;
use crate::stop::Stop;

/// Stops the microVM when the connection breaks: a guest whose files are gone
/// can only hang.
pub(super) struct Watch {
    pub(super) stream: UnixStream,
    pub(super) tag: String,
    pub(super) stop: Stop,
}

impl Watch {
    fn lost(&self, detail: &str) {
        let (tag, detail) = (self.tag.clone(), detail.to_owned());
        self.stop.request(ExitReason::FsBackendLost { tag, detail });
    }
}

impl MutEventSubscriber for Watch {
    fn init(&mut self, ops: &mut EventOps) {
        if ops
            .add(Events::new(&self.stream, EventSet::READ_HANG_UP))
            .is_err()
        {
            self.lost("the connection cannot be watched");
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let _ = ops.remove(events);
        self.lost("the connection was closed");
    }
}
