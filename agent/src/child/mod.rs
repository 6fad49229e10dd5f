//! What runs in a new process, from the fork to `execve`.
//!
//! Everything in here works on the process itself. It never returns into the
//! agent's event loop: it ends by executing the command, or tells the agent
//! what failed and exits.

mod command;
mod control;
mod copy_up;
mod descriptors;
mod devices;
mod error;
mod hooks;
mod identity;
mod mounts;
mod namespaces;
mod resolve;
mod rootfs;
mod terminal;

use std::convert::Infallible;
use std::os::fd::{BorrowedFd, OwnedFd};

use bulkhead_protocol::WindowSize;
use rustix::fs::{Mode, OFlags, Uid, open};
use rustix::process::{Pid, chroot, fchdir, setsid, umask};
use rustix::system::{setdomainname, sethostname};
use rustix::thread::{
    CpuSet, ThreadNameSpaceType, move_into_thread_name_spaces, sched_setaffinity, set_no_new_privs,
};

pub(crate) use control::{MAX_REPORT, Report, pair as control_pair};
pub(crate) use descriptors::Streams;
pub(crate) use namespaces::MADE_LATER;
pub(crate) use terminal::window_size;

use crate::plan::{ContainerPlan, CpuList, ProcessPlan};
use crate::stdio::Which;
use crate::sys::{self, Forked};
use command::Command;
use control::Control;
use error::{Context, Result, SetupError};
use resolve::Root;
use terminal::Terminal;

/// What every new process needs, the first of a container or a further one.
pub(crate) struct Launch<'a> {
    /// What to become.
    pub(crate) plan: &'a ProcessPlan,
    /// Seccomp filter, an array of `struct sock_filter`.
    pub(crate) seccomp_filter: Option<&'a [u8]>,
    /// A terminal of this size instead of the streams.
    pub(crate) terminal: Option<WindowSize>,
    /// Standard streams; absent ones are `/dev/null`.
    pub(crate) streams: Streams,
    /// Channel to the agent.
    pub(crate) control: OwnedFd,
}

/// Runs a container's init process. Returns the code to exit with if it fails.
pub(crate) fn run_init(proof: &Forked, id: &str, plan: &ContainerPlan, launch: Launch<'_>) -> u8 {
    let set_up =
        |terminal, control: &Control| -> Result<()> { set_up_init(plan, terminal, control) };
    run(proof, launch, None, set_up, || hooks::run(id, plan))
}

/// A container's init process, as one that joins it has to know it.
#[derive(Clone, Copy)]
pub(crate) struct Init<'a> {
    /// Its id.
    pub(crate) pid: Pid,
    /// A handle on it.
    pub(crate) pidfd: BorrowedFd<'a>,
}

/// Runs a further process in the container whose init process is `init`.
/// Returns the code to exit with if it fails.
pub(crate) fn run_exec(
    proof: &Forked,
    init: Init<'_>,
    namespaces: ThreadNameSpaceType,
    launch: Launch<'_>,
) -> u8 {
    let ProcessPlan { uid, exec_cpus, .. } = launch.plan;
    let uid = *uid;
    let set_up = |terminal: Option<WindowSize>, control: &Control| {
        set_up_exec(init, namespaces)?;
        exec_cpus.as_ref().map_or(Ok(()), bind)?;
        terminal.map_or(Ok(()), |size| take_new_terminal(size, uid, control))
    };
    run(proof, launch, Some(init.pidfd), set_up, || Ok(()))
}

fn run(
    proof: &Forked,
    launch: Launch<'_>,
    keep: Option<BorrowedFd<'_>>,
    set_up: impl FnOnce(Option<WindowSize>, &Control) -> Result<()>,
    before_command: impl FnOnce() -> Result<()>,
) -> u8 {
    let absent = launch.streams.each_ref().map(Option::is_none);
    let control = match descriptors::arrange(proof, launch.streams, launch.control, keep) {
        Ok(control) => control,
        // The agent sees the channel close before anything was reported.
        Err(error) => return error.exit_code(),
    };
    let absent = if launch.terminal.is_some() {
        [false; 3]
    } else {
        absent
    };
    let filter = launch.seccomp_filter;
    let finish = || execute(launch.plan, filter, absent, &control, before_command);
    let result = set_up(launch.terminal, &control).and_then(|()| finish());
    let Err(error) = result;
    control.send_failure(error.to_remote());
    error.exit_code()
}

fn set_up_init(
    plan: &ContainerPlan,
    terminal: Option<WindowSize>,
    control: &Control,
) -> Result<()> {
    start_afresh()?;
    namespaces::complete(&plan.namespaces, control)?;
    let own_user_namespace = plan.namespaces.new.contains(ThreadNameSpaceType::USER);
    let built = rootfs::build(plan, own_user_namespace)?;
    let terminal = terminal
        .map(|size| Terminal::open(&built.root, size, control))
        .transpose()?;
    if let Some(terminal) = &terminal {
        terminal.bind_console(&built.root)?;
    }
    if let Some(name) = &plan.hostname {
        sethostname(name.as_bytes()).step("set the host name")?;
    }
    if let Some(name) = &plan.domainname {
        setdomainname(name.as_bytes()).step("set the domain name")?;
    }
    namespaces::set_sysctls(&plan.sysctls)?;
    rootfs::protect(&built, plan)?;
    rootfs::enter(&built.root, plan.rootfs_propagation)?;
    if let Some(personality) = plan.personality {
        sys::set_personality(personality.domain).step("set the execution domain")?;
    }
    // A kernel without keyrings has none to share.
    let _ = sys::join_new_session_keyring();
    terminal.map_or(Ok(()), |terminal| terminal.take(plan.process.uid))
}

fn set_up_exec(init: Init<'_>, namespaces: ThreadNameSpaceType) -> Result<()> {
    start_afresh()?;
    namespaces::hide_from_container()?;
    // The id is init's: that the handle can be used afterwards says that it
    // was still alive.
    let root = format!("/proc/{}/root", init.pid.as_raw_pid());
    let root = open(&root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .on_path("open the container's root", root)?;
    move_into_thread_name_spaces(init.pidfd, namespaces).step("join the container's namespaces")?;
    // Joining leads to the root of the mount namespace, which is the
    // container's unless the agent itself is in a chroot.
    fchdir(&root)
        .and_then(|()| chroot("."))
        .step("enter the container's root")?;
    if namespaces.contains(ThreadNameSpaceType::USER) {
        namespaces::become_root()?;
        namespaces::hide_from_container()?;
    }
    Ok(())
}

/// A terminal of the container that this process has joined.
fn take_new_terminal(size: WindowSize, uid: Uid, control: &Control) -> Result<()> {
    let root = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step("open the root")?;
    Terminal::open(&Root::new(root), size, control)?.take(uid)
}

/// Undoes what the agent set for itself.
fn start_afresh() -> Result<()> {
    sys::reset_signals().step("reset signals")?;
    setsid().step("start a session")?;
    umask(Mode::empty());
    Ok(())
}

/// The rest of the way. A filter needs privileges unless `no_new_privileges`
/// is set, so without that it is installed while there still are some.
fn execute(
    plan: &ProcessPlan,
    seccomp_filter: Option<&[u8]>,
    absent: Which,
    control: &Control,
    before_command: impl FnOnce() -> Result<()>,
) -> Result<Infallible> {
    descriptors::replace_null(absent)?;
    prioritise(plan)?;
    let install_filter = || match seccomp_filter {
        Some(filter) => sys::install_seccomp_filter(filter).step("install the seccomp filter"),
        None => Ok(()),
    };
    if !plan.no_new_privileges {
        install_filter()?;
    }
    identity::assume(plan)?;
    let command = Command::find(&plan.args, &plan.env, plan.uid)?;
    control.send_ready();
    if !control.wait() {
        sys::exit_now(1);
    }
    if plan.no_new_privileges {
        set_no_new_privs(true).step("set no_new_privs")?;
        install_filter()?;
    }
    before_command()?;
    Err::<Infallible, SetupError>(command.execute())
}

fn bind(cpus: &CpuList) -> Result<()> {
    let mut set = CpuSet::new();
    cpus.0.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).step("bind the process to its processors")
}

/// A filter may forbid it, and some of it needs privileges.
fn prioritise(plan: &ProcessPlan) -> Result<()> {
    if let Some(scheduling) = &plan.scheduling {
        sys::set_scheduling(scheduling).step("set the scheduler")?;
    }
    if let Some(priority) = plan.io_priority {
        sys::set_io_priority(priority).step("set the priority of input and output")?;
    }
    Ok(())
}
