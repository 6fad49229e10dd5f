//! Kernel keyrings.

use std::io;

use super::process::check;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Gives the process a session keyring of its own, so that it does not share
/// keys with other containers of the sandbox.
pub(crate) fn join_new_session_keyring() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; nothing is written.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    })
}
