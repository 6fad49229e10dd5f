//! The start of a sandbox's processes.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use bulkhead_fsd::Export;
use bulkhead_protocol::ports;
use bulkhead_vmm::config::{Config, Endpoint, FsConfig, NetConfig, VsockConfig};
use rustix::fs::MemfdFlags;

use super::control::Control;
use super::dir::{self, SandboxDir};
use super::export_argument;
use super::helper::{Helper, inherit, this_program};
use crate::installation::Installation;
use crate::network::Tap;
use crate::resources::Resources;

/// Where the VMM's messages go.
pub(super) const VMM_LOG: &str = "vmm.log";

/// Where the file server's messages go.
pub(super) const FSD_LOG: &str = "fsd.log";

/// What the agent mounts the shared file system by.
const TAG: &str = "shared";

/// The guest's context id; ids identify guests to the host's kernel, which
/// these know nothing of, so each may have the same.
const CID: u64 = 3;

/// The kernel's parameters (docs/guest-kernel.md): that it says little on the
/// way up, how its end becomes visible (docs/decisions/0005), what makes it
/// start faster, and that there is no network device nobody asked for.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 reboot=panic_warm,k \
                       percpu_alloc=page noreplace-smp \
                       rootfstype=ramfs dummy.numdummies=0";

/// Linux waits 10 ms between two interrupts that start a processor, unless it
/// knows the model not to need that. None needs it that is virtual.
const CMDLINE_OF_SEVERAL: &str = " cpu_init_udelay=0";

/// What a sandbox is made from.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The other ends of its network devices.
    pub(crate) taps: Vec<Tap>,
    /// Kernel and initramfs.
    pub(crate) installation: Installation,
    /// Size of the microVM.
    pub(crate) resources: Resources,
    /// What is shared with the guest.
    pub(crate) exports: Vec<Export>,
}

/// What has been started.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) vmm: Helper,
    pub(super) fsd: Helper,
    pub(super) control: Control,
    pub(super) owner: UnixListener,
}

/// Starts the processes. The VMM first: its guest takes a while before it asks
/// for files.
pub(super) fn start(dir: &SandboxDir, plan: Plan) -> io::Result<Launched> {
    let owner = dir.listen(ports::SANDBOX_OWNER)?;
    let (fs_listener, fs_stream) = dir.connected_listener()?;
    let (control, vmm_control) = UnixStream::pair()?;
    let vmm = start_vmm(dir, &plan, &vmm_control, &fs_stream)?;
    // They are inheritable now, and not for the file server.
    drop((vmm_control, fs_stream, plan.taps));
    let fsd = start_fsd(dir, fs_listener, &plan.exports)?;
    let control = Control::new(control)?;
    Ok(Launched {
        vmm,
        fsd,
        control,
        owner,
    })
}

/// The file server: its standard input is the listening socket.
fn start_fsd(dir: &SandboxDir, listener: UnixListener, exports: &[Export]) -> io::Result<Helper> {
    let mut command = this_program("fsd");
    for export in exports {
        command.arg("--export").arg(export_argument::of(export));
    }
    command.stdin(OwnedFd::from(listener));
    spawn(dir, &mut command, FSD_LOG)
}

/// The VMM: its standard input is its configuration.
fn start_vmm(
    dir: &SandboxDir,
    plan: &Plan,
    control: &UnixStream,
    fs: &UnixStream,
) -> io::Result<Helper> {
    inherit(control)?;
    inherit(fs)?;
    let config = Config {
        kernel: plan.installation.kernel.clone(),
        initramfs: Some(plan.installation.initramfs.clone()),
        cmdline: cmdline(plan.resources.vcpus),
        vcpus: plan.resources.vcpus,
        memory_mib: plan.resources.memory_mib,
        console: Some(Endpoint::Path(dir::CONSOLE.into())),
        vsock: Some(VsockConfig {
            cid: CID,
            socket: dir::VSOCK.into(),
        }),
        fs: vec![FsConfig {
            tag: TAG.to_owned(),
            backend: Endpoint::Fd(fs.as_raw_fd()),
        }],
        net: taps(plan)?,
        // The guest's kernel seeds its generator from the processor's.
        rng: !std::arch::is_x86_feature_detected!("rdrand"),
        control_fd: Some(control.as_raw_fd()),
    };
    let mut file = File::from(rustix::fs::memfd_create("vmm-config", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(&config)?)?;
    file.rewind()?;
    let mut command = this_program("vmm");
    command
        .args(["--config", "/proc/self/fd/0"])
        .stdin(file)
        .current_dir(dir.path());
    spawn(dir, &mut command, VMM_LOG)
}

/// Leaves the taps to the VMM.
fn taps(plan: &Plan) -> io::Result<Vec<NetConfig>> {
    let hand_over = |tap: &Tap| {
        tap.queues.iter().try_for_each(inherit)?;
        Ok(NetConfig {
            mac: tap.mac,
            mtu: Some(tap.mtu),
            tap_fds: tap.queues.iter().map(AsRawFd::as_raw_fd).collect(),
        })
    };
    plan.taps.iter().map(hand_over).collect()
}

fn spawn(dir: &SandboxDir, command: &mut Command, log: &str) -> io::Result<Helper> {
    Helper::spawn(command.stdout(Stdio::null()).stderr(dir.log_file(log)?))
}

fn cmdline(vcpus: u32) -> String {
    let several = if vcpus > 1 { CMDLINE_OF_SEVERAL } else { "" };
    format!("{CMDLINE}{several}")
}
