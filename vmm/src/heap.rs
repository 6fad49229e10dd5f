//! How the C library's allocator works in this process.

/// Has all threads share one heap, the program's own.
///
/// The heaps that threads get otherwise cost mappings at the start and memory
/// afterwards, and when they shrink, glibc reads
/// `/proc/sys/vm/overcommit_memory`: a confined thread would die of that.
/// There is nothing to gain from them: threads that serve a guest seldom
/// allocate.
#[allow(unsafe_code)]
pub(crate) fn share_between_threads() {
    // SAFETY: `mallopt` takes two numbers, and the allocator's own lock.
    let done = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    debug_assert_eq!(done, 1, "glibc knows M_ARENA_MAX");
}
