//! Progress of long steps, on standard error.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a running step gives a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// A step that takes long enough for somebody to wonder.
pub(crate) struct Step {
    name: String,
    started: Instant,
    finished: Sender<()>,
    reporter: JoinHandle<()>,
}

impl Step {
    pub(crate) fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        let started = Instant::now();
        eprintln!("→ {name}");
        let (finished, wait) = mpsc::channel();
        let reporter = {
            let name = name.clone();
            thread::spawn(move || {
                while wait.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
                    eprintln!("  … {name}: {} s", started.elapsed().as_secs());
                }
            })
        };
        Self {
            name,
            started,
            finished,
            reporter,
        }
    }

    /// Ends the step and says how long it took.
    pub(crate) fn finish(self) -> Duration {
        let elapsed = self.started.elapsed();
        drop(self.finished);
        let _ = self.reporter.join();
        eprintln!("✓ {} ({:.1} s)", self.name, elapsed.as_secs_f64());
        elapsed
    }
}
