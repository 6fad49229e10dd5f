//! PID 1 of the guest: from the first instruction to the event loop, and the
//! end of the guest.
//!
//! What the host waits for comes first: the agent dials it before anything is
//! mounted. While the host answers, the rest is made ready.

use std::fs;
use std::io;

use bulkhead_protocol::{Hello, Stamps, VERSION};
use nix::sys::signal::{Signal, kill};
use rustix::fs::{CWD, sync};
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, mount, mount_remount, move_mount, open_tree,
};
use rustix::process::{Resource, Rlimit, chroot, fchdir, setrlimit};
use rustix::system::{RebootCommand, reboot, sethostname, uname};

use crate::agent::{Agent, AgentError, Settings, log};
use crate::guest::{self, CGROUPS, GuestError};
use crate::stdio;
use crate::sys;
use crate::transport::Vsock;

/// Where containers' root file systems and volumes are found: the mount of the
/// host's virtio-fs device.
const SHARED: &str = "/run/shared";
/// Tag of that device.
const SHARED_TAG: &str = "shared";

/// I/O port and value that switch the power off, as ACPI does it on a Q35
/// machine: the host's side of this agreement is the VMM's power device.
const POWER_PORT: u16 = 0x604;
const POWER_OFF: u16 = 0x2000;

/// Each process costs the agent up to eight descriptors.
const MAX_DESCRIPTORS: u64 = 1 << 20;

/// Why the guest cannot be brought up.
#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error("cannot {action}")]
    Step {
        action: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// Runs the guest, from its first process's first instruction to its end.
pub fn run() -> ! {
    let started_tsc = sys::read_tsc();
    if let Err(error) = serve(started_tsc) {
        let message = crate::error::remote(bulkhead_protocol::ErrorKind::Internal, &error).message;
        // The end of PID 1 is a panic of the guest's kernel, which the host
        // sees; the console's last lines tell why.
        panic!("the agent cannot go on: {message}");
    }
    power_off()
}

fn serve(started_tsc: u64) -> Result<(), BootError> {
    let missing = stdio::hold_missing().step("hold the standard streams' numbers")?;
    let mut agent = Agent::new(settings(started_tsc))?;
    make_pivotable_root().step("make a root that can be changed")?;
    mount_file_systems()?;
    stdio::open_null(missing).step("open /dev/null")?;
    mount_shared();
    let descriptors = Rlimit {
        current: Some(MAX_DESCRIPTORS),
        maximum: Some(MAX_DESCRIPTORS),
    };
    setrlimit(Resource::Nofile, descriptors).step("raise the limit of descriptors")?;
    sethostname(b"localhost").step("set the host name")?;
    // Last: a container that gets hold of the agent's files cannot change them.
    mount_remount("/", MountFlags::RDONLY, c"").step("make the initramfs read-only")?;
    Ok(agent.run()?)
}

fn settings(started_tsc: u64) -> Settings {
    Settings {
        transport: Box::new(Vsock),
        cgroups: CGROUPS.into(),
        hello: Hello {
            version: VERSION,
            kernel_release: uname().release().to_string_lossy().into_owned(),
            stamps: Stamps {
                started_tsc,
                ready_tsc: sys::read_tsc(),
            },
        },
    }
}

fn mount_file_systems() -> Result<(), BootError> {
    for file_system in &guest::FILE_SYSTEMS {
        file_system.mount()?;
        if file_system.fs_type == "sysfs" {
            expedite_grace_periods();
        }
    }
    Ok(())
}

/// Has the kernel interrupt its processors instead of waiting for their next
/// timer tick when it must know that all have let go of something. Mounting,
/// and making and removing namespaces and cgroups, wait for little else: the
/// first mount of cgroup2 alone takes two ticks, 20 ms.
fn expedite_grace_periods() {
    if let Err(error) = fs::write("/sys/kernel/rcu_expedited", "1") {
        log(&format!("cannot expedite RCU grace periods: {error}"));
    }
}

/// A guest without a virtio-fs device can still run containers, from whatever
/// else it is given; those that need the share will say so.
fn mount_shared() {
    let result = guest::make_directory("/run")
        .and_then(|()| guest::make_directory(SHARED))
        .and_then(|()| mount(SHARED_TAG, SHARED, "virtiofs", MountFlags::empty(), c""));
    if let Err(error) = result {
        log(&format!(
            "cannot mount the virtio-fs device '{SHARED_TAG}': {error}"
        ));
    }
}

/// `pivot_root` refuses to move the initramfs, which is the root of all mounts.
/// A copy of its mount on top of it can be moved.
fn make_pivotable_root() -> rustix::io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let root = open_tree(CWD, "/", flags)?;
    move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    fchdir(&root)?;
    chroot(".")
}

/// Ends the guest.
fn power_off() -> ! {
    // From PID 1 this means every other process.
    let _ = kill(nix::unistd::Pid::from_raw(-1), Signal::SIGKILL);
    sync();
    let _ = sys::write_port(POWER_PORT, POWER_OFF);
    let _ = reboot(RebootCommand::Restart);
    panic!("the guest can neither be switched off nor reset");
}

trait Context<T> {
    fn step(self, action: &'static str) -> Result<T, BootError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn step(self, action: &'static str) -> Result<T, BootError> {
        self.map_err(|error| BootError::Step {
            action,
            source: error.into(),
        })
    }
}
