//! A sandbox: a microVM, the file server beside it, and their directory.
//!
//! Both processes are started at once, and nobody waits for either: their
//! sockets exist, and one is connected, before they run.

mod control;
mod demise;
mod dir;
pub(crate) mod export_argument;
mod helper;
mod launch;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_vmm::control::Event;
use bulkhead_vmm::exit::ExitReason;

pub(crate) use control::Control;
pub(crate) use demise::{Demise, quoted};
pub(crate) use dir::{SandboxDir, remove};
pub(crate) use helper::{Ending, Helper, this_program};
use launch::Launched;
pub(crate) use launch::Plan;

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

/// A running sandbox. Dropping it ends its processes and removes its directory.
#[derive(Debug)]
pub(crate) struct Sandbox {
    dir: SandboxDir,
    vmm: Helper,
    fsd: Helper,
    control: Control,
    /// Until the agent has called.
    owner: Option<UnixListener>,
    end: Option<VmEnd>,
}

/// What the VMM told of its microVM's end.
#[derive(Debug)]
enum VmEnd {
    Exit { reason: ExitReason, console: String },
    Failed { error: String },
}

impl Sandbox {
    /// Starts the sandbox's processes in a directory made for it at `path`.
    ///
    /// The process must have no other thread that starts processes: for a
    /// moment descriptors are inheritable.
    pub(crate) fn launch(path: &Path, plan: Plan) -> Result<Self, SandboxError> {
        let dir = SandboxDir::create(path)?;
        match launch::start(&dir, plan) {
            Ok(Launched {
                vmm,
                fsd,
                control,
                owner,
            }) => Ok(Self {
                dir,
                vmm,
                fsd,
                control,
                owner: Some(owner),
                end: None,
            }),
            Err(source) => {
                // The first failure is the one to tell.
                let _ = dir.remove();
                Err(SandboxError::io("start a sandbox in", path)(source))
            }
        }
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
    pub(crate) fn owner(&self) -> Option<BorrowedFd<'_>> {
        self.owner.as_ref().map(AsFd::as_fd)
    }

    /// Takes the agent's call, which has come, and no other: whatever runs in
    /// the guest can call, too.
    pub(crate) fn accept_agent(&mut self) -> io::Result<UnixStream> {
        let owner = self.owner.take().ok_or(io::ErrorKind::NotConnected)?;
        Ok(owner.accept()?.0)
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
        match self.end.take() {
            Some(VmEnd::Failed { error }) => Some(Demise::NotStarted { error }),
            Some(VmEnd::Exit { reason, console }) => Some(self.guest_ended(reason, console)),
            None if self.control.is_closed() => {
                let ending = self.vmm.end_within(GRACE)?;
                let log = self.dir.tail(launch::VMM_LOG, SHOWN_LINES);
                Some(Demise::Vmm { ending, log })
            }
            None => self.file_server_ended(Duration::ZERO),
        }
    }

    fn guest_ended(&mut self, reason: ExitReason, console: String) -> Demise {
        if matches!(reason, ExitReason::FsBackendLost { .. })
            && let Some(demise) = self.file_server_ended(GRACE)
        {
            return demise;
        }
        Demise::Guest { reason, console }
    }

    fn file_server_ended(&mut self, grace: Duration) -> Option<Demise> {
        let ending = self.fsd.wait_for(grace)?;
        let log = self.dir.tail(launch::FSD_LOG, SHOWN_LINES);
        Some(Demise::FileServer { ending, log })
    }

    fn vm_is_over(&self) -> bool {
        self.end.is_some() || self.control.is_closed()
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

    /// Ends its processes, and with them the streams from the guest.
    pub(crate) fn end_processes(&mut self) {
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
