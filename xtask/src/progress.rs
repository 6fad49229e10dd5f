//! Progress of long steps, on standard error.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How often a running step gives a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// A step that takes long enough for somebody to wonder. Unless it is finished, it
/// has failed.
pub(crate) struct Step {
    name: String,
    started: Instant,
    /// Ends the thread that gives signs of life by going away.
    running: Option<Sender<()>>,
}

impl Step {
    pub(crate) fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        let started = Instant::now();
        eprintln!("→ {name}");
        let (running, ended) = mpsc::channel::<()>();
        {
            let name = name.clone();
            thread::spawn(move || {
                while ended.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
                    eprintln!("  … {name}: {} s", started.elapsed().as_secs());
                }
            });
        }
        Self {
            name,
            started,
            running: Some(running),
        }
    }

    /// Ends the step and says how long it took.
    pub(crate) fn finish(mut self) -> Duration {
        self.end('✓')
    }

    fn end(&mut self, mark: char) -> Duration {
        let elapsed = self.started.elapsed();
        self.running = None;
        eprintln!("{mark} {} ({:.1} s)", self.name, elapsed.as_secs_f64());
        elapsed
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.end('✗');
        }
    }
}
