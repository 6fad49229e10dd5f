//! System calls that no safe crate wraps, and the processor's own
//! instructions. All of the agent's unsafe code is in here.

mod bpf;
mod fork;
mod io_port;
mod keyring;
mod mount;
mod network;
mod priority;
mod process;
mod tsc;
mod vsock;

pub(crate) use bpf::attach_device_filter;
pub(crate) use fork::{Child, Forked, SingleThreaded, fork};
pub(crate) use io_port::write_port;
pub(crate) use keyring::join_new_session_keyring;
pub(crate) use mount::set_attributes;
pub(crate) use network::bring_up_loopback;
pub(crate) use priority::{set_io_priority, set_scheduling};
pub(crate) use process::{
    close_all_but, exit_now, ignore_sigpipe, install_seccomp_filter, reset_signals, send_signal,
    set_personality, unshare,
};
pub(crate) use tsc::read_tsc;
pub(crate) use vsock::set_vsock_connect_timeout;
