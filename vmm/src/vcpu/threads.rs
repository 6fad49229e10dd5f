//! One thread for each vCPU.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, JoinHandle};

use super::{Vcpu, kick};
use crate::clock;
use crate::control::Stamp;
use crate::event_loop::EventLoopHandle;
use crate::exit::ExitReason;
use crate::seccomp::{self, Role, SeccompError};
use crate::stop::Stop;

/// Why there are no threads.
#[derive(Debug, thiserror::Error)]
pub enum ThreadsError {
    /// The signal that kicks vCPUs cannot be handled.
    #[error("cannot handle the signal that kicks vCPUs")]
    Signal(#[source] io::Error),
    /// A vCPU's thread could not be confined.
    #[error("cannot start the thread of vCPU {vcpu}")]
    Confine {
        /// Which vCPU.
        vcpu: u8,
        /// Why.
        source: SeccompError,
    },
    /// No thread for a vCPU.
    #[error("cannot start the thread of vCPU {vcpu}")]
    Spawn {
        /// Which vCPU.
        vcpu: u8,
        /// Why.
        source: io::Error,
    },
}

/// The threads of all vCPUs. They run from [`release`](Self::release) on.
pub struct Threads {
    handles: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// What the threads and their owner share.
struct Shared {
    gate: OnceLock<Gate>,
    alive: AtomicUsize,
    entered: OnceLock<Stamp>,
    stop: Stop,
    event_loop: EventLoopHandle,
}

/// What the threads are told once they are there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Run,
    End,
}

impl Threads {
    /// Starts the threads, confines them and holds them. `event_loop` is woken when the first
    /// vCPU enters the guest, and when a thread ends.
    pub fn spawn(
        vcpus: Vec<Vcpu>,
        stop: &Stop,
        event_loop: EventLoopHandle,
    ) -> Result<Self, ThreadsError> {
        kick::install_handler().map_err(ThreadsError::Signal)?;
        let shared = Arc::new(Shared {
            gate: OnceLock::new(),
            alive: AtomicUsize::new(0),
            entered: OnceLock::new(),
            stop: stop.clone(),
            event_loop,
        });
        // Dropped on the way out, this lets the threads go that are there.
        let mut threads = Self {
            handles: Vec::with_capacity(vcpus.len()),
            shared,
        };
        let (confined, confinements) = mpsc::channel();
        for vcpu in vcpus {
            threads.spawn_one(vcpu, confined.clone())?;
        }
        // Ends when each thread has given its word, and has dropped the sender.
        drop(confined);
        confinements.iter().collect::<Result<(), _>>()?;
        Ok(threads)
    }

    fn spawn_one(
        &mut self,
        mut vcpu: Vcpu,
        confined: mpsc::Sender<Result<(), ThreadsError>>,
    ) -> Result<(), ThreadsError> {
        let id = vcpu.id();
        let alive = Alive::new(id, self.shared.clone());
        let run = move || {
            let result = seccomp::confine(Role::Vcpu)
                .map_err(|source| ThreadsError::Confine { vcpu: id, source });
            // Fails only when nobody waits for it any more.
            let _ = confined.send(result);
            drop(confined);
            if *alive.shared.gate.wait() == Gate::Run {
                alive.note_entry();
                vcpu.run();
            }
        };
        let handle = thread::Builder::new()
            .name(format!("vcpu{id}"))
            .spawn(run)
            .map_err(|source| ThreadsError::Spawn { vcpu: id, source })?;
        self.handles.push(handle);
        Ok(())
    }

    /// Lets the vCPUs run.
    pub fn release(&self) {
        let _ = self.shared.gate.set(Gate::Run);
    }

    /// When the first vCPU was about to enter the guest.
    pub fn entered(&self) -> Option<Stamp> {
        self.shared.entered.get().copied()
    }

    /// Gets all vCPUs out of the guest.
    pub fn kick(&self) {
        self.handles.iter().for_each(kick::kick);
    }

    /// Whether any thread has not ended.
    pub fn any_alive(&self) -> bool {
        self.shared.alive.load(Ordering::Acquire) > 0
    }
}

impl Drop for Threads {
    /// Waits for the threads, of which those that still run the guest must have
    /// been stopped and kicked.
    fn drop(&mut self) {
        let _ = self.shared.gate.set(Gate::End);
        for handle in self.handles.drain(..) {
            // A panic has been noted by `Alive`.
            let _ = handle.join();
        }
    }
}

/// A thread that has not ended.
struct Alive {
    vcpu: u8,
    shared: Arc<Shared>,
}

impl Alive {
    fn new(vcpu: u8, shared: Arc<Shared>) -> Self {
        shared.alive.fetch_add(1, Ordering::AcqRel);
        Self { vcpu, shared }
    }

    fn note_entry(&self) {
        if self.vcpu == 0 {
            let _ = self.shared.entered.set(clock::now());
            self.shared.event_loop.wake();
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if thread::panicking() {
            let detail = "its thread panicked".to_owned();
            self.shared.stop.request(ExitReason::VcpuFailed {
                vcpu: self.vcpu,
                detail,
            });
        }
        self.shared.alive.fetch_sub(1, Ordering::AcqRel);
        self.shared.event_loop.wake();
    }
}
