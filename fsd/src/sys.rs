//! System calls that have no safe wrapper yet.

#![allow(unsafe_code)]

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::UnshareFlags;

/// Moves the process into new namespaces.
pub(crate) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    assert!(!namespaces.contains(UnshareFlags::FILES));
    // SAFETY: unsharing is unsafe where it parts threads from each other's
    // descriptors; the descriptor table stays shared, as asserted.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }?;
    Ok(())
}

/// Adds attributes (`MOUNT_ATTR_*`) to the mount that `mount` refers to, and
/// to those below it if `recursive`: `mount_setattr(2)`, Linux 5.12.
pub(crate) fn add_mount_attributes(
    mount: impl AsFd,
    attributes: u64,
    recursive: bool,
) -> io::Result<()> {
    let change = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    change_mount(mount, &change, recursive)
}

/// Has the mount, and those below it if `recursive`, show ids as the user namespace maps
/// them.
pub(crate) fn map_mount_ids(
    mount: impl AsFd,
    namespace: &OwnedFd,
    recursive: bool,
) -> io::Result<()> {
    let change = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd().cast_unsigned().into(),
    };
    change_mount(mount, &change, recursive)
}

fn change_mount(mount: impl AsFd, change: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid C string, and `change` outlives the call,
    // which reads as many bytes of it as it is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(change),
            size_of_val(change),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A process that does nothing, in a user namespace of its own; it ends when dropped.
#[derive(Debug)]
pub(crate) struct UserNamespaceProcess {
    pid: Pid,
    /// Tells it that we are there, and tells us that it is ready.
    lifeline: UnixStream,
}

impl UserNamespaceProcess {
    /// Starts it. The calling process must have a single thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (lifeline, childs) = UnixStream::pair()?;
        // SAFETY: there is one thread, so that no lock can be held by another one; the
        // child makes system calls only, and does not return.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                drop(lifeline);
                wait_in_user_namespace(&childs)
            }
            pid => {
                drop(childs);
                let process = Self {
                    pid: Pid::from_raw(pid).expect("pids are positive"),
                    lifeline,
                };
                match (&process.lifeline).read(&mut [0])? {
                    0 => Err(io::Error::other("cannot enter a new user namespace")),
                    _ => Ok(process),
                }
            }
        }
    }

    /// Its id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }
}

impl Drop for UserNamespaceProcess {
    fn drop(&mut self) {
        // It is a child, so that neither can fail.
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// Until the parent ends this process, or is gone.
fn wait_in_user_namespace(lifeline: &UnixStream) -> ! {
    if unshare(UnshareFlags::NEWUSER).is_ok() {
        let _ = rustix::io::write(lifeline, &[1]);
        let _ = rustix::io::read(lifeline, &mut [0]);
    }
    // SAFETY: it does not return, and touches no memory.
    unsafe { libc::_exit(1) }
}
