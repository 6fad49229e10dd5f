//! `/init` of the guest.
#![no_main]

/// Not Rust's usual `main`: its runtime aborts when the standard streams are
/// closed and there is no `/dev/null`, which is how a guest without a console
/// starts.
#[allow(unsafe_code)]
// SAFETY: the only `main` of the program, with the signature that C's start
// code calls.
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    bulkhead_agent::boot::run()
}
