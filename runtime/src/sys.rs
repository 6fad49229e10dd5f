//! What has no safe wrapper yet: a system call, an instruction, a moment between
//! `fork` and `execve`.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::SigSet;
use rustix::thread::UnshareFlags;

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

/// Has a foreign program start with no signal blocked, whatever this process has
/// blocked for itself.
pub(crate) fn unblock_signals_of(command: &mut Command) -> &mut Command {
    // SAFETY: between `fork` and `execve` it does nothing but one system call,
    // which is async-signal-safe (`signal-safety(7)`).
    unsafe { command.pre_exec(|| Ok(SigSet::all().thread_unblock()?)) }
}

/// Moves the process, which must have one thread, into new namespaces.
pub(crate) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    assert!(!namespaces.contains(UnshareFlags::FILES));
    // SAFETY: unsharing is unsafe where it parts threads from each other's
    // descriptors; the descriptor table stays shared, as asserted.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }?;
    Ok(())
}

/// The `CLONE_NEW*` flag of a namespace that was opened; `ioctl_nsfs(2)`. Fails for any
/// other file.
pub(crate) fn namespace_type(namespace: &File) -> io::Result<libc::c_int> {
    // SAFETY: no memory is passed.
    let kind = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_NSTYPE) };
    if kind == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(kind)
    }
}

/// A tap in this process's network namespace, as our VMM wants it: so many queues, and
/// its name. `pattern` is that name, or has a `%d` for the kernel to fill in.
pub(crate) fn open_tap(pattern: &str, queues: usize) -> io::Result<(Vec<File>, String)> {
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if queues > 1 {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let (first, name) = open_tap_queue(pattern, flags)?;
    let mut files = vec![first];
    while files.len() < queues {
        let (next, _) = open_tap_queue(&name, flags)?;
        files.push(next);
    }
    Ok((files, name))
}

/// Makes a tap with one queue, or adds a queue to one.
fn open_tap_queue(pattern: &str, flags: libc::c_int) -> io::Result<(File, String)> {
    /// What the guest takes: `include/uapi/linux/if_tun.h`.
    const OFFLOADS: libc::c_ulong = (libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6) as _;
    /// `struct virtio_net_hdr_v1`.
    static HEADER_SIZE: libc::c_int = 12;
    let tap = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // SAFETY: an `ifreq` is plain data, for which zeros are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(pattern.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    let check = |result: libc::c_int| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    let fd = tap.as_raw_fd();
    // SAFETY: each call gets the kind of argument that `tun(4)`'s driver reads or
    // writes: an `ifreq`, a pointer to an `int`, a number. All outlive the call.
    unsafe {
        check(libc::ioctl(fd, libc::TUNSETIFF as _, &raw mut request))?;
        check(libc::ioctl(
            fd,
            libc::TUNSETVNETHDRSZ as _,
            &raw const HEADER_SIZE,
        ))?;
        check(libc::ioctl(fd, libc::TUNSETOFFLOAD as _, OFFLOADS))?;
    }
    let name = request.ifr_name.iter().take_while(|byte| **byte != 0);
    let name = name.map(|byte| char::from(byte.cast_unsigned())).collect();
    Ok((tap, name))
}

/// The host's time stamp counter.
pub(crate) fn tsc() -> u64 {
    // SAFETY: each x86-64 processor has the instruction, and Linux lets user
    // space use it unless the process asked otherwise, which this one does not.
    unsafe { std::arch::x86_64::_rdtsc() }
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
