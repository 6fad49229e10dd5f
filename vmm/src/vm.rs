//! A microVM from its first instruction to its last.
//!
//! ```text
//!  boot ──► Vm ──start──► Running ──a stop is requested──► stop ──► ExitReason
//!           built         vCPUs run                        vCPUs end
//! ```
//!
//! Each state owns what exists in it. The thread that calls [`Vm::run`] is the
//! one that drives: it serves the devices' events, but for those that
//! [workers](crate::workers) serve, and nobody else changes the state. Other threads can
//! only [request a stop](crate::stop).

use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use crate::control::{Control, Event, GuestTsc};
use crate::devices::console::Console;
use crate::event_loop::EventLoop;
use crate::exit::ExitReason;
use crate::kvm::VmWithMemory;
use crate::seccomp::{self, Role, SeccompError};
use crate::stop::Stop;
use crate::vcpu::Vcpu;
use crate::vcpu::threads::{Threads, ThreadsError};
use crate::workers::{WorkerThreads, Workers, WorkersError};

/// A microVM that is built and has not run.
pub struct Vm {
    /// The boot processor is the first.
    pub(crate) vcpus: Vec<Vcpu>,
    /// How to read the guest's time stamps, if KVM tells.
    pub(crate) guest_tsc: Option<GuestTsc>,
    pub(crate) event_loop: EventLoop,
    pub(crate) workers: Workers,
    pub(crate) stop: Stop,
    pub(crate) console: Console,
    pub(crate) control: Control,
    /// The connections to the file systems' backends.
    pub(crate) fs_backends: Vec<UnixStream>,
    pub(crate) machine: VmWithMemory,
}

/// Why a microVM that was built could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There are no threads for the vCPUs.
    #[error(transparent)]
    Threads(#[from] ThreadsError),
    /// There are no threads for the devices.
    #[error(transparent)]
    Workers(#[from] WorkersError),
    /// The event loop's thread could not be confined.
    #[error(transparent)]
    Confine(#[from] SeccompError),
}

impl Vm {
    /// Runs the microVM on this thread, on one for each vCPU, and the workers', until it
    /// stops. This thread is [confined](crate::seccomp) afterwards.
    pub fn run(self) -> Result<ExitReason, RunError> {
        let (control, console) = (self.control.clone(), self.console.clone());
        let mut running = self.start()?;
        let reason = running.drive();
        let machine = running.stop();

        console.finish_line();
        let console_tail = match reason {
            ExitReason::PowerOff => String::new(),
            _ => console.tail(),
        };
        control.send(&Event::Exit {
            reason: reason.clone(),
            console_tail,
        });
        // KVM takes tens of milliseconds to dissolve a virtual machine. Nobody
        // has to wait for that to learn of its end.
        drop(machine);
        Ok(reason)
    }

    fn start(self) -> Result<Running, RunError> {
        let workers = self.workers.start(&self.stop)?;
        let threads = Threads::spawn(self.vcpus, &self.stop, self.event_loop.handle())?;
        seccomp::confine(Role::EventLoop)?;
        threads.release();
        Ok(Running {
            threads,
            guest_tsc: self.guest_tsc,
            entry_reported: false,
            event_loop: self.event_loop,
            workers,
            stop: self.stop,
            control: self.control,
            fs_backends: self.fs_backends,
            machine: self.machine,
        })
    }
}

/// A microVM whose vCPUs run.
struct Running {
    threads: Threads,
    guest_tsc: Option<GuestTsc>,
    entry_reported: bool,
    event_loop: EventLoop,
    workers: WorkerThreads,
    stop: Stop,
    control: Control,
    fs_backends: Vec<UnixStream>,
    machine: VmWithMemory,
}

impl Running {
    /// Serves events until a stop is requested.
    fn drive(&mut self) -> ExitReason {
        loop {
            if let Err(error) = self.event_loop.run_once() {
                self.stop.request(ExitReason::EventLoopFailed {
                    detail: error.detail(),
                });
            }
            self.report_entry();
            if let Some(reason) = self.stop.requested() {
                return reason.clone();
            }
        }
    }

    fn report_entry(&mut self) {
        if let (false, Some(at)) = (self.entry_reported, self.threads.entered()) {
            self.entry_reported = true;
            self.control.send(&Event::KernelEntered {
                at,
                guest_tsc: self.guest_tsc,
            });
        }
    }

    /// Ends the vCPUs. What is left is the machine without them.
    fn stop(mut self) -> VmWithMemory {
        // A vCPU's thread may be waiting for an answer: from a backend, which
        // this ends, or from the event loop, which therefore goes on.
        for backend in &self.fs_backends {
            let _ = backend.shutdown(Shutdown::Both);
        }
        self.threads.kick();
        while self.threads.any_alive() && self.event_loop.run_once().is_ok() {}
        // With a loop that failed, whoever waits for it is told so by its end.
        drop(self.event_loop);
        drop(self.threads);
        drop(self.workers);
        self.machine
    }
}
