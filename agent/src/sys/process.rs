//! What a process does to itself, or to another.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

use super::Forked;
use crate::config::PersonalityDomain;

/// Ends the process without running anything that was registered for its end.
pub(crate) fn exit_now(code: u8) -> ! {
    // SAFETY: it does not return, and touches no memory.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Sends a signal to the process behind `pidfd`. Takes any number: the kernel
/// says which ones there are, real-time signals included.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: u8) -> io::Result<()> {
    // SAFETY: no memory is passed: without `siginfo` the kernel makes one.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            i32::from(signal),
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(result)
}

/// Has writes to closed pipes and sockets fail instead of killing the process.
pub(crate) fn ignore_sigpipe() -> io::Result<()> {
    // SAFETY: ignoring is no function; there is nothing to be unsound.
    let previous = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    check(if previous == libc::SIG_ERR { -1 } else { 0 })
}

/// Takes back what the agent changed about signals: all are at their default,
/// as the kernel's first process has them, and none is blocked.
pub(crate) fn reset_signals() -> io::Result<()> {
    // SAFETY: the default action is no function; there is nothing to be unsound.
    let previous = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    check(if previous == libc::SIG_ERR { -1 } else { 0 })?;
    nix::sys::signal::SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Moves the process into new namespaces.
pub(crate) fn unshare(namespaces: ThreadNameSpaceType) -> io::Result<()> {
    let flags = UnshareFlags::from_bits_retain(namespaces.bits());
    // SAFETY: only namespaces are named, never CLONE_FILES, which is what
    // could pull descriptors from under somebody.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    Ok(())
}

/// Installs a seccomp filter (an array of `struct sock_filter`), which holds
/// for everything from the next system call on.
pub(crate) fn install_seccomp_filter(filter: &[u8]) -> io::Result<()> {
    let instructions: Vec<libc::sock_filter> = filter
        .chunks_exact(size_of::<libc::sock_filter>())
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: `program` and the instructions it points to live through the
    // call; the kernel copies and verifies them, and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    check(result)
}

/// Sets the execution domain (`include/uapi/linux/personality.h`).
pub(crate) fn set_personality(domain: PersonalityDomain) -> io::Result<()> {
    let domain = match domain {
        PersonalityDomain::Linux => 0,
        PersonalityDomain::Linux32 => 8,
    };
    // SAFETY: changes how the kernel answers this process, not its memory.
    check(unsafe { libc::personality(domain) }.into())
}

/// Closes all descriptors but the standard streams and those in `keep`. For a
/// forked child, whose parent's descriptors are none of its business.
pub(crate) fn close_all_but(_proof: &Forked, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    keep.sort_unstable();
    let mut first = libc::STDERR_FILENO as u32 + 1;
    for kept in keep.into_iter().chain([u32::MAX]) {
        if first < kept {
            // SAFETY: owners of these descriptors are values of the parent
            // that the child has copies of; it never uses nor drops them, as
            // `Forked` says that it does not return into the parent's code.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, kept - 1, 0) })?;
        }
        first = first.max(kept.saturating_add(1));
    }
    Ok(())
}

pub(super) fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
