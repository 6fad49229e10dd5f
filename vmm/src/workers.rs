//! Threads that serve events beside the main one, for devices that would keep
//! the others waiting.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use crate::event_loop::{EventLoop, EventLoopError, EventLoopHandle};
use crate::exit::ExitReason;
use crate::seccomp::{self, Role, SeccompError};
use crate::stop::Stop;

/// Why there are no workers.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// No thread for one.
    #[error("cannot start worker thread {worker}")]
    Spawn {
        /// Which one, from 0.
        worker: usize,
        /// Why.
        source: io::Error,
    },
    /// One could not be confined.
    #[error("cannot start worker thread {worker}")]
    Confine {
        /// Which one, from 0.
        worker: usize,
        /// Why.
        source: SeccompError,
    },
}

/// The workers before they have threads.
pub struct Workers(Vec<EventLoop>);

impl Workers {
    /// As many loops without handlers.
    pub fn new(count: usize) -> Result<Self, EventLoopError> {
        let loops = (0..count).map(|_| EventLoop::new());
        Ok(Self(loops.collect::<Result<_, _>>()?))
    }

    /// A handle on each one's loop.
    pub fn handles(&self) -> Vec<EventLoopHandle> {
        self.0.iter().map(EventLoop::handle).collect()
    }

    /// Gives each a confined thread. `stop` is requested if one fails.
    pub fn start(self, stop: &Stop) -> Result<WorkerThreads, WorkersError> {
        let mut threads = WorkerThreads::default();
        let (confined, confinements) = mpsc::channel();
        for (worker, event_loop) in self.0.into_iter().enumerate() {
            threads.spawn(worker, event_loop, stop.clone(), confined.clone())?;
        }
        // Ends when each thread has given its word, and has dropped the sender.
        drop(confined);
        confinements.iter().collect::<Result<(), _>>()?;
        Ok(threads)
    }
}

/// The workers at work.
#[derive(Default)]
pub struct WorkerThreads {
    threads: Vec<(EventLoopHandle, JoinHandle<()>)>,
    ended: Arc<AtomicBool>,
}

impl WorkerThreads {
    fn spawn(
        &mut self,
        worker: usize,
        event_loop: EventLoop,
        stop: Stop,
        confined: mpsc::Sender<Result<(), WorkersError>>,
    ) -> Result<(), WorkersError> {
        let (handle, ended) = (event_loop.handle(), self.ended.clone());
        let run = move || {
            let result = seccomp::confine(Role::Worker)
                .map_err(|source| WorkersError::Confine { worker, source });
            // Fails only when nobody waits for it any more.
            let _ = confined.send(result);
            drop(confined);
            serve(event_loop, &ended, &stop);
        };
        let thread = thread::Builder::new()
            .name(format!("worker{worker}"))
            .spawn(run)
            .map_err(|source| WorkersError::Spawn { worker, source })?;
        self.threads.push((handle, thread));
        Ok(())
    }
}

fn serve(mut event_loop: EventLoop, ended: &AtomicBool, stop: &Stop) {
    let _notes = NotesPanic(stop);
    while !ended.load(Ordering::Acquire) {
        if let Err(error) = event_loop.run_once() {
            return stop.request(ExitReason::EventLoopFailed {
                detail: error.detail(),
            });
        }
    }
}

/// Stops the microVM if its thread panics.
struct NotesPanic<'a>(&'a Stop);

impl Drop for NotesPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let detail = "a worker's thread panicked".to_owned();
            self.0.request(ExitReason::EventLoopFailed { detail });
        }
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        for (event_loop, thread) in self.threads.drain(..) {
            event_loop.wake();
            // `NotesPanic` has noted a panic.
            let _ = thread.join();
        }
    }
}
