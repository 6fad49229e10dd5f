//! Starts at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::error::Error;

/// How many starts a second there were, and how long each took.
#[derive(Debug)]
pub(super) struct AtOnceSamples {
    pub(super) at_once: usize,
    pub(super) starts_per_s: f64,
    pub(super) run: Vec<f64>,
}

/// Does `starts` starts, numbered from zero, `at_once` of them at any time. The
/// first failure ends it.
#[allow(clippy::cast_precision_loss)]
pub(super) fn at_once(
    at_once: usize,
    starts: usize,
    start: impl Fn(usize) -> Result<f64, Error> + Sync,
) -> Result<AtOnceSamples, Error> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut run = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= starts {
                return Ok(run);
            }
            match start(n) {
                Ok(ms) => run.push(ms),
                Err(error) => {
                    next.store(starts, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    let began = Instant::now();
    let results: Vec<Result<Vec<f64>, Error>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| worker.join().expect("no panics");
        workers.into_iter().map(join).collect()
    });
    let took = began.elapsed().as_secs_f64();
    let run = results.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    Ok(AtOnceSamples {
        at_once,
        starts_per_s: run.len() as f64 / took,
        run,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex};

    use super::*;

    #[test]
    fn as_many_run_at_once_as_asked_for() {
        // Only three together get past it.
        let barrier = Barrier::new(3);
        let numbers = Mutex::new(Vec::new());
        let samples = at_once(3, 9, |n| {
            barrier.wait();
            numbers.lock().unwrap().push(n);
            Ok(1.0)
        });
        assert_eq!(samples.unwrap().run.len(), 9);
        let mut numbers = numbers.into_inner().unwrap();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn failure_ends_it() {
        let count = AtomicUsize::new(0);
        let outcome = at_once(1, 100, |n| {
            count.fetch_add(1, Ordering::Relaxed);
            if n == 2 {
                Err(Error::Interrupted)
            } else {
                Ok(1.0)
            }
        });
        assert!(outcome.is_err());
        assert_eq!(count.into_inner(), 3);
    }
}
