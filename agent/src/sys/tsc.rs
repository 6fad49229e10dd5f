//! The time stamp counter.

/// Reads the processor's time stamp counter.
pub(crate) fn read_tsc() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and it has no effect
    // but its result.
    unsafe { core::arch::x86_64::_rdtsc() }
}
