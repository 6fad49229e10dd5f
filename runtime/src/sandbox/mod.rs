//! A sandbox: a microVM, the file server beside it, and their directory.
//!
//! Both processes are started at once, and nobody waits for either: their
//! sockets exist, and one is connected, before they run.

mod control;
mod dir;
mod helper;

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_fsd::Export;
use bulkhead_protocol::ports;
use bulkhead_vmm::config::{Config, Endpoint, FsConfig, VsockConfig};
use bulkhead_vmm::control::Event;
use bulkhead_vmm::exit::ExitReason;
use rustix::fs::MemfdFlags;

use crate::installation::Installation;
use crate::resources::Resources;
use control::Control;
pub(crate) use dir::{SandboxDir, remove};
pub(crate) use helper::{Ending, Helper, this_program};

/// What the agent mounts the shared file system by.
const TAG: &str = "shared";

/// The guest's context id; ids identify guests to the host's kernel, which
/// these know nothing of, so each may have the same.
const CID: u64 = 3;

/// How a guest's end becomes visible (docs/decisions/0005), and that nothing
/// else is said on the way up.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 reboot=panic_warm,k";

/// How long the processes of a sandbox get to end by themselves when another
/// has, so that the one that was first can be named.
const GRACE: Duration = Duration::from_secs(2);

/// Lines of the console, or of a process's log, that go into a message.
const SHOWN_LINES: usize = 20;

/// A sandbox could not be set up or torn down.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub(crate) struct SandboxError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl SandboxError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            action,
            path,
            source,
        }
    }
}

/// What a sandbox is made from.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Kernel and initramfs.
    pub(crate) installation: Installation,
    /// Size of the microVM.
    pub(crate) resources: Resources,
    /// What is shared with the guest.
    pub(crate) exports: Vec<Export>,
}

/// A running sandbox. Dropping it ends its processes and removes its directory.
#[derive(Debug)]
pub(crate) struct Sandbox {
    dir: SandboxDir,
    vmm: Helper,
    fsd: Helper,
    control: Control,
    owner: UnixListener,
    end: Option<VmEnd>,
}

/// What the VMM told of its microVM's end.
#[derive(Debug)]
enum VmEnd {
    Exit { reason: ExitReason, console: String },
    Failed { error: String },
}

/// Why a sandbox ended although nobody had asked for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Demise {
    /// The VMM could not start the microVM.
    #[error("cannot start the microVM: {error}")]
    NotStarted {
        /// As the VMM tells it.
        error: String,
    },
    /// The microVM ended, and the VMM saw why.
    #[error("{}{}", describe(reason), quoted("the guest's console", console))]
    Guest {
        /// Why.
        reason: ExitReason,
        /// The console's last lines.
        console: String,
    },
    /// The VMM ended without a word.
    #[error("the VMM {ending}{}", quoted("its log", log))]
    Vmm {
        /// How.
        ending: Ending,
        /// Its log's last lines.
        log: String,
    },
    /// The file server ended.
    #[error("the file server {ending}{}", quoted("its log", log))]
    FileServer {
        /// How.
        ending: Ending,
        /// Its log's last lines.
        log: String,
    },
}

fn describe(reason: &ExitReason) -> String {
    match reason {
        ExitReason::TripleFault { vcpu } => {
            format!("the guest ended in a triple fault on vCPU {vcpu}")
        }
        other => other.to_string(),
    }
}

/// Text of somebody else's, set apart; nothing if there is none.
pub(crate) fn quoted(what: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = text.lines().map(|line| format!("  | {line}")).collect();
    format!("; the end of {what}:\n{}", lines.join("\n"))
}

impl Sandbox {
    /// Starts the sandbox's processes in a directory made for it at `path`.
    ///
    /// The process must have no other thread that starts processes: for a
    /// moment descriptors are inheritable.
    pub(crate) fn launch(path: &Path, plan: &Plan) -> Result<Self, SandboxError> {
        let dir = SandboxDir::create(path)?;
        let started = Self::start_processes(&dir, plan);
        match started {
            Ok((fsd, vmm, control, owner)) => Ok(Self {
                dir,
                vmm,
                fsd,
                control,
                owner,
                end: None,
            }),
            Err(source) => {
                // The first failure is the one to tell.
                let _ = dir.remove();
                Err(SandboxError::io("start a sandbox in", path)(source))
            }
        }
    }

    fn start_processes(
        dir: &SandboxDir,
        plan: &Plan,
    ) -> io::Result<(Helper, Helper, Control, UnixListener)> {
        let owner = dir.listen(ports::SANDBOX_OWNER)?;
        let (fs_listener, fs_stream) = dir.connected_listener()?;
        let fsd = start_fsd(dir, fs_listener, &plan.exports)?;
        let (control, vmm_control) = UnixStream::pair()?;
        let vmm = start_vmm(dir, plan, &vmm_control, &fs_stream)?;
        Ok((fsd, vmm, Control::new(control)?, owner))
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &SandboxDir {
        &self.dir
    }

    /// Its VMM.
    pub(crate) fn vmm(&self) -> &Helper {
        &self.vmm
    }

    /// Its file server.
    pub(crate) fn file_server(&self) -> &Helper {
        &self.fsd
    }

    /// Where the VMM's events can be read.
    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Where the agent calls, once, when it is up.
    pub(crate) fn owner(&self) -> &UnixListener {
        &self.owner
    }

    /// Takes in what the VMM has told; passes on what is news of the start.
    pub(crate) fn receive(&mut self) -> Vec<Event> {
        let mut news = Vec::new();
        for event in self.control.receive() {
            match event {
                Event::Exit {
                    reason,
                    console_tail,
                } => {
                    let console = dir::last_lines(&console_tail, SHOWN_LINES);
                    self.end = Some(VmEnd::Exit { reason, console });
                }
                Event::Failed { error } => self.end = Some(VmEnd::Failed { error }),
                other => news.push(other),
            }
        }
        news
    }

    /// Why the sandbox is over, if it is.
    pub(crate) fn demise(&mut self) -> Option<Demise> {
        if !self.vm_is_over() {
            // A file server that ended by itself; the VMM may have been first.
            self.fsd.wait_for(Duration::ZERO)?;
        }
        self.demise_within_grace()
    }

    /// Why the sandbox is over, if it is or is about to be: called when
    /// something is found to be missing that would go with it.
    pub(crate) fn demise_within_grace(&mut self) -> Option<Demise> {
        self.wait_for_vm_end();
        let fsd = self.fsd.wait_for(if self.lost_file_server() {
            GRACE
        } else {
            Duration::ZERO
        });
        match (self.end.take(), fsd) {
            (Some(VmEnd::Failed { error }), _) => Some(Demise::NotStarted { error }),
            (
                Some(VmEnd::Exit {
                    reason: ExitReason::FsBackendLost { .. },
                    ..
                }),
                Some(ending),
            ) => Some(self.file_server_ended(ending)),
            (Some(VmEnd::Exit { reason, console }), _) => Some(Demise::Guest { reason, console }),
            (None, fsd) => match (self.vm_is_over(), fsd) {
                (true, _) => self.vmm.wait_for(GRACE).map(|ending| Demise::Vmm {
                    ending,
                    log: self.dir.tail("vmm.log", SHOWN_LINES),
                }),
                (false, Some(ending)) => Some(self.file_server_ended(ending)),
                (false, None) => None,
            },
        }
    }

    fn vm_is_over(&self) -> bool {
        self.end.is_some() || self.control.is_closed()
    }

    fn lost_file_server(&self) -> bool {
        matches!(
            self.end,
            Some(VmEnd::Exit {
                reason: ExitReason::FsBackendLost { .. },
                ..
            })
        )
    }

    fn file_server_ended(&self, ending: Ending) -> Demise {
        Demise::FileServer {
            ending,
            log: self.dir.tail("fsd.log", SHOWN_LINES),
        }
    }

    fn wait_for_vm_end(&mut self) {
        let deadline = Instant::now() + GRACE;
        while !self.vm_is_over() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            crate::events::wait_readable(self.control.as_fd(), left);
            // What it told of the start is of no interest any more.
            self.receive();
        }
    }

    /// The console's last lines.
    pub(crate) fn console(&self) -> String {
        self.dir.tail(dir::CONSOLE, SHOWN_LINES)
    }

    /// Ends the sandbox and removes its directory.
    pub(crate) fn tear_down(mut self) -> Result<(), SandboxError> {
        self.end_processes();
        dir::remove(self.dir.path())
    }

    fn end_processes(&mut self) {
        self.vmm.kill();
        self.fsd.kill();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.end_processes();
        // Nobody is left to tell; `delete` removes it again.
        let _ = dir::remove(self.dir.path());
    }
}

/// The file server: its standard input is the listening socket.
fn start_fsd(dir: &SandboxDir, listener: UnixListener, exports: &[Export]) -> io::Result<Helper> {
    let mut command = this_program("fsd");
    for export in exports {
        let flag = if export.read_only {
            "--export-ro"
        } else {
            "--export"
        };
        let mut value = export.name.clone().into_os_string();
        value.push("=");
        value.push(&export.source);
        command.arg(flag).arg(value);
    }
    command.stdin(OwnedFd::from(listener));
    spawn(dir, &mut command, "fsd.log")
}

/// The VMM: its standard input is its configuration.
fn start_vmm(
    dir: &SandboxDir,
    plan: &Plan,
    control: &UnixStream,
    fs: &UnixStream,
) -> io::Result<Helper> {
    helper::inherit(control)?;
    helper::inherit(fs)?;
    let config = Config {
        kernel: plan.installation.kernel.clone(),
        initramfs: Some(plan.installation.initramfs.clone()),
        cmdline: CMDLINE.to_owned(),
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
        rng: true,
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
    spawn(dir, &mut command, "vmm.log")
}

fn spawn(dir: &SandboxDir, command: &mut Command, log: &str) -> io::Result<Helper> {
    Helper::spawn(command.stdout(Stdio::null()).stderr(dir.log_file(log)?))
}
