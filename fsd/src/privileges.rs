//! What the server may do once its view of the file system stands.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

/// Acting for each of the guest's users, on files of each of them, takes
/// these; `DAC_READ_SEARCH` is what opening by file handle takes.
const NEEDED: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP);

/// Why privileges or limits could not be set.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The limit of open files could not be raised.
    #[error("cannot raise the limit of open files: {reason}")]
    DescriptorLimit {
        /// As virtiofsd tells it.
        reason: String,
    },
    /// A privilege could not be dropped.
    #[error("cannot drop {what}")]
    Drop {
        /// Which privilege.
        what: &'static str,
        /// How it failed.
        source: io::Error,
    },
}

impl PrivilegeError {
    fn drop(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Drop {
            what,
            source: errno.into(),
        }
    }
}

/// Raises the limit of open files as far as the process is allowed, and
/// returns it. Must come before [`reduce`] and while `/proc` is in reach.
pub(crate) fn raise_descriptor_limit() -> Result<u64, PrivilegeError> {
    virtiofsd::limits::setup_rlimit_nofile(None)
        .map_err(|reason| PrivilegeError::DescriptorLimit { reason })
}

/// Keeps the capabilities that serving takes, and gives up all other
/// privileges for good.
pub(crate) fn reduce() -> Result<(), PrivilegeError> {
    use rustix::thread;

    let present = thread::capabilities(None)
        .map_err(PrivilegeError::drop("capabilities"))?
        .permitted;
    if present.contains(CapabilitySet::SETGID) {
        match thread::set_thread_groups(&[]) {
            // In a user namespace of a user other than root: they are the user's own.
            Ok(()) | Err(rustix::io::Errno::PERM) => {}
            Err(errno) => return Err(PrivilegeError::drop("supplementary groups")(errno)),
        }
    }
    if present.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(NEEDED).iter() {
            match thread::remove_capability_from_bounding_set(capability) {
                // A capability that this kernel does not have.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(errno) => return Err(PrivilegeError::drop("bounding capabilities")(errno)),
            }
        }
    }
    let kept = present.intersection(NEEDED);
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    thread::set_capabilities(None, sets).map_err(PrivilegeError::drop("capabilities"))?;
    thread::set_no_new_privs(true).map_err(PrivilegeError::drop("new privileges"))
}
