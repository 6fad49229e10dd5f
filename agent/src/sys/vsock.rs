//! Options of vsock sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::process::check;

/// `SO_VM_SOCKETS_CONNECT_TIMEOUT` (`include/uapi/linux/vm_sockets.h`) where a
/// `time_t` has 64 bits.
const CONNECT_TIMEOUT: libc::c_int = 6;

/// Sets how long a connection may take to be made. The kernel's own choice is
/// two seconds.
pub(crate) fn set_vsock_connect_timeout(socket: BorrowedFd<'_>, seconds: u32) -> io::Result<()> {
    let timeout = libc::timeval {
        tv_sec: seconds.into(),
        tv_usec: 0,
    };
    // SAFETY: the option's value is a `struct timeval` of the size told, which
    // outlives the call; the kernel only reads it.
    check(unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            socket.as_raw_fd(),
            libc::AF_VSOCK,
            CONNECT_TIMEOUT,
            &raw const timeout,
            size_of::<libc::timeval>(),
        )
    })
}
