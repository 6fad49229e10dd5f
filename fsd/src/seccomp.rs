//! The system calls the server may make, compiled from `seccomp/fsd.json` when
//! this crate is built.

#[allow(clippy::unreadable_literal)]
mod policy {
    use seccompiler::sock_filter;

    include!(concat!(env!("OUT_DIR"), "/seccomp.rs"));
}

/// Installs the filter for this thread and those it will start. A call
/// outside of the list ends the process.
pub(crate) fn install() -> Result<(), seccompiler::Error> {
    seccompiler::apply_filter(policy::SERVER)
}
