//! Serving: a pass-through file system behind a vhost-user connection.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use vhost::vhost_user::{Error as VhostUserError, Listener};
use vhost_user_backend::VhostUserDaemon;
use virtiofsd::passthrough::{
    CachePolicy, Config, InodeFileHandlesMode, NegotiationMode, PassthroughFs,
};
use virtiofsd::vhost_user::VhostUserFsBackend;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use crate::exports::View;
use crate::negative_entries::NegativeEntries;

/// How long the guest may believe a name, the absence of one, or an attribute without
/// asking again.
/// The pod owns its root file system, but its volumes may change under it, and
/// so may a root that the engine copies files into.
const VALIDITY: Duration = Duration::from_secs(1);

/// Descriptors kept back for the server itself: the guest's memory regions,
/// eventfds and the like, and those that are open for the length of a request.
const RESERVED_DESCRIPTORS: u64 = 256;

/// Why serving failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Too few descriptors to serve anybody.
    #[error(
        "the limit of {limit} open files is too low: more than {RESERVED_DESCRIPTORS} are needed"
    )]
    TooFewDescriptors {
        /// The limit.
        limit: u64,
    },
    /// The exports cannot be read.
    #[error("cannot open the exports")]
    OpenExports(#[source] io::Error),
    /// The backend could not be set up.
    #[error("cannot set up the virtio-fs backend")]
    Backend(#[from] virtiofsd::vhost_user::Error),
    /// The vhost-user connection failed.
    // This error type does not implement `Error`.
    #[error("the vhost-user connection failed: {0}")]
    Connection(vhost_user_backend::Error),
}

/// Serves the first client of `listener` until it disconnects, holding at
/// most `descriptors` open files.
pub(crate) fn serve(
    listener: UnixListener,
    view: View,
    descriptors: u64,
) -> Result<(), ServeError> {
    let guest_fd_limit = descriptors
        .checked_sub(RESERVED_DESCRIPTORS)
        .filter(|&limit| limit > 0)
        .ok_or(ServeError::TooFewDescriptors { limit: descriptors })?;
    let file_system =
        PassthroughFs::new(config(view, guest_fd_limit)).map_err(ServeError::OpenExports)?;
    let file_system = NegativeEntries::new(file_system, VALIDITY);
    let backend = Arc::new(VhostUserFsBackend::new(file_system)?);
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let mut daemon = VhostUserDaemon::new("fsd-vhost-user".to_owned(), backend, memory)
        .map_err(ServeError::Connection)?;
    let mut listener = Listener::from(listener);
    daemon
        .start(&mut listener)
        .map_err(ServeError::Connection)?;
    match daemon.wait() {
        Ok(()) => Ok(()),
        Err(error) if is_hangup(&error) => Ok(()),
        Err(error) => Err(ServeError::Connection(error)),
    }
}

/// A VMM that exits, however it does, is no failure of the server's.
fn is_hangup(error: &vhost_user_backend::Error) -> bool {
    use VhostUserError::{Disconnected, PartialMessage, SocketBroken};
    matches!(
        error,
        vhost_user_backend::Error::HandleRequest(Disconnected | PartialMessage | SocketBroken(_))
    )
}

fn config(view: View, guest_fd_limit: u64) -> Config {
    Config {
        entry_timeout: VALIDITY,
        attr_timeout: VALIDITY,
        // What the guest has read it keeps, as long as size and time of change are what they
        // were, which it asks for when they are no longer valid: as bounded as names and
        // attributes are, and it needs not read a file again each time it is opened.
        // What it writes goes through to the host at once.
        cache_policy: CachePolicy::Always,
        writeback: false,
        allow_mmap: true,
        root_dir: "/".to_owned(),
        proc_sfd_rawfd: Some(view.proc_self_fd),
        proc_mountinfo_rawfd: Some(view.mountinfo),
        // Exports may lie on different file systems, whose inode numbers
        // collide; as submounts each gets a device number of its own.
        announce_submounts: true,
        // A descriptor for each inode that the guest knows would run out.
        inode_file_handles: InodeFileHandlesMode::Prefer,
        readdirplus: true,
        xattr: true,
        posix_acl: NegotiationMode::Auto,
        // Spares the guest a request for `security.capability` at each write.
        killpriv_v2: true,
        guest_fd_limit,
        ..Config::default()
    }
}
