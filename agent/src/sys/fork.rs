//! Forking.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::Pid;
use rustix::thread::ThreadNameSpaceType;

use super::exit_now;
use super::process::check;

/// Proof that this process has one thread, so that a forked child may do
/// anything the parent could: no lock is held by a thread that the child lacks.
#[derive(Debug)]
pub(crate) struct SingleThreaded(());

impl SingleThreaded {
    /// Fails if there are several threads. The agent asks once, when it
    /// starts, and makes no threads.
    pub(crate) fn check() -> io::Result<Self> {
        // SAFETY: shares nothing and unshares nothing; of a process with one
        // thread nothing is asked, and of others it is refused (unshare(2)).
        check(unsafe { libc::unshare(libc::CLONE_THREAD) }.into())?;
        Ok(Self(()))
    }
}

/// Proof of being in a forked child, which never returns into the parent's code.
#[derive(Debug)]
pub(crate) struct Forked(());

/// A process that was forked.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its id, in the caller's pid namespace.
    pub(crate) pid: Pid,
    /// A handle that means this process even when the id is used again.
    pub(crate) pidfd: OwnedFd,
}

/// `struct clone_args` (`include/uapi/linux/sched.h`).
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP` (`include/uapi/linux/sched.h`).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks a process into new namespaces and a cgroup (an open directory), by
/// `clone3(2)`. `child` runs in it and returns its exit code.
pub(crate) fn fork(
    _proof: &SingleThreaded,
    namespaces: ThreadNameSpaceType,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce(Forked) -> u8,
) -> io::Result<Child> {
    let mut pidfd: libc::c_int = -1;
    let mut flags = libc::CLONE_PIDFD as u64 | u64::from(namespaces.bits());
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let args = CloneArgs {
        flags,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM and with no stack given, this is fork(2): the
    // child has a copy of all memory, and as the process has one thread
    // (`_proof`), the copy is consistent. `args` lives through the call, and
    // `pidfd` points to a c_int, as CLONE_PIDFD wants.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let _no_way_back = ExitOnUnwind;
            exit_now(child(Forked(())))
        }
        pid => Ok(Child {
            pid: Pid::from_raw(pid as i32).expect("a child's id is positive"),
            // SAFETY: the kernel has just put this descriptor there, for us.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Ends a child that panics where panics unwind.
struct ExitOnUnwind;

impl Drop for ExitOnUnwind {
    fn drop(&mut self) {
        exit_now(1)
    }
}
