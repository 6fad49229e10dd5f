//! Moments on the host's monotonic clock.

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// A moment: `CLOCK_MONOTONIC` in nanoseconds. The VMM stamps its events with
/// the same clock, so that moments of both processes can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Moment(pub u64);

impl Moment {
    /// The present.
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Self(now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned())
    }

    /// Milliseconds from `earlier` to this moment; negative if it is not.
    #[allow(clippy::cast_precision_loss)] // Below 2^53 ns, or 104 days, it is exact.
    pub(crate) fn ms_since(self, earlier: Self) -> f64 {
        self.0.wrapping_sub(earlier.0).cast_signed() as f64 / 1e6
    }
}
