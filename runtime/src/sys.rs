//! The system call that has no safe wrapper yet.

#![allow(unsafe_code)]

/// Highest descriptor number there can be.
const LAST: libc::c_uint = libc::c_uint::MAX;

/// Sees to it that nothing but the standard streams is inherited by the
/// processes that this one starts: what a caller has left open is not theirs,
/// and would stay open as long as they live.
pub(crate) fn keep_descriptors_from_children() {
    const FIRST: libc::c_uint = 3;
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: no descriptor is closed, now or in this process at all; the flag
    // only has an `execve` close them.
    unsafe { libc::close_range(FIRST, LAST, flags) };
    // Fails only where Linux is older than 5.11, which runs no guests of ours:
    // the file server needs `mount_setattr` of 5.12.
}

#[cfg(test)]
mod tests {
    use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

    use super::*;

    #[test]
    fn what_is_open_is_closed_by_exec() {
        let file = tempfile::tempfile().unwrap();
        fcntl_setfd(&file, FdFlags::empty()).unwrap();
        keep_descriptors_from_children();
        assert_eq!(fcntl_getfd(&file).unwrap(), FdFlags::CLOEXEC);
    }
}
