//! The host's end of a connection, as its state machine sees it.

use std::io;

use vm_memory::{ReadVolatile, WriteVolatile};

/// A non-blocking byte stream to a program on the host.
pub(super) trait Stream: ReadVolatile + WriteVolatile + io::Write {
    /// Ends what the program can write, and discards what it has written: it
    /// then sees a plain end of the stream, and no reset, when the stream is
    /// closed.
    fn shutdown_read(&mut self);

    /// Ends what the program can read.
    fn shutdown_write(&mut self);
}

/// What has become possible on a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Readiness {
    /// There may be something to read, or the end.
    pub(super) readable: bool,
    /// It may take more.
    pub(super) writable: bool,
    /// What the program is done with.
    pub(super) hang_up: HangUp,
}

/// What the program on the host is done with, as far as the stream tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HangUp {
    /// Perhaps nothing.
    #[default]
    None,
    /// It will not write any more.
    Writing,
    /// Nor will it read.
    Both,
}
