//! The host's clocks.

use std::arch::x86_64::_rdtsc;

use rustix::time::{ClockId, clock_gettime};

use crate::control::Stamp;

/// Reads both clocks.
#[allow(unsafe_code)]
pub(crate) fn now() -> Stamp {
    let time = clock_gettime(ClockId::Monotonic);
    // SAFETY: each x86-64 processor has the instruction, and Linux lets user
    // space use it unless the process asked otherwise, which this one does not.
    let tsc = unsafe { _rdtsc() };
    let monotonic_ns = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
    Stamp { monotonic_ns, tsc }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_advance() {
        let first = now();
        let second = now();
        assert!(second.monotonic_ns >= first.monotonic_ns);
        assert!(second.tsc >= first.tsc);
    }
}
