//! Getting a vCPU's thread out of the guest.
//!
//! A signal ends a run that is under way. One that arrives just before would be
//! lost, so its handler also tells KVM to return at once from the run to come.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::os::raw::{c_int, c_void};
use std::ptr;
use std::thread::JoinHandle;

use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler, unblock_signal};

thread_local! {
    /// `kvm_run.immediate_exit` of the vCPU that this thread runs.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

/// Makes kicks possible in threads that are started after this, whatever
/// signals whoever started this process had blocked.
pub fn install_handler() -> io::Result<()> {
    register_signal_handler(SIGRTMIN(), on_kick)?;
    unblock_signal(SIGRTMIN()).map_err(|error| io::Error::other(format!("{error:?}")))
}

/// Makes the vCPU that the thread runs leave the guest, now or when next it
/// enters.
pub fn kick<T>(thread: &JoinHandle<T>) {
    // Fails only if the thread has ended, and then there is nothing to kick.
    let _ = thread.kill(SIGRTMIN());
}

/// This thread as the one that kicks of a vCPU go to, as long as it lives.
pub struct Target {
    /// Bound to the thread.
    _not_send: PhantomData<*mut u8>,
}

impl Target {
    /// Declares this thread the vCPU's.
    pub fn new(vcpu: &mut VcpuFd) -> Self {
        IMMEDIATE_EXIT.set(&raw mut vcpu.get_kvm_run().immediate_exit);
        Self {
            _not_send: PhantomData,
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        IMMEDIATE_EXIT.set(ptr::null_mut());
    }
}

/// Async-signal-safe: the variable needs no initialisation and has no
/// destructor.
#[allow(unsafe_code)]
extern "C" fn on_kick(_signal: c_int, _info: *mut libc::siginfo_t, _context: *mut c_void) {
    let immediate_exit = IMMEDIATE_EXIT.get();
    if !immediate_exit.is_null() {
        // SAFETY: the pointer is into the `kvm_run` mapping of a vCPU that this
        // thread runs: `Target` withdraws it before the vCPU can go. KVM reads
        // the byte, this thread writes it.
        unsafe { immediate_exit.write_volatile(1) };
    }
}
