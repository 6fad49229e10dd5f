//! The virtio-fs server of a sandbox: it shows the guest some directories and
//! files of the host, and can reach nothing else of it.
//!
//! The server speaks vhost-user to the VMM and FUSE to the guest's kernel. It
//! parses what the guest writes, so it is a process of its own and confines
//! itself before the VMM's first byte is read: the [exports](Export) are all
//! of its file system (`exports.rs`), it keeps only the capabilities that
//! passing files through takes (`privileges.rs`), and the system calls it may
//! make are listed in `seccomp/fsd.json` (`seccomp.rs`).
//!
//! What confinement cannot take away: to let a guest know millions of files
//! without as many descriptors, inodes are held as file handles, and
//! `open_by_handle_at` takes `CAP_DAC_READ_SEARCH`. Whoever takes over this
//! process can therefore guess handles of files outside the exports, on the
//! file systems that the exports lie on.

#![deny(unsafe_code)]

mod exports;
mod id_map;
mod negative_entries;
mod privileges;
mod seccomp;
mod server;
mod sys;

use std::os::unix::net::UnixListener;

pub use exports::{Export, ExportError};
pub use id_map::{IdMap, IdRange};
pub use privileges::PrivilegeError;
pub use server::ServeError;

/// Confines the process to `exports` and serves them to the first client of
/// `listener`, until that client disconnects.
///
/// The calling process must have a single thread, and is of no other use
/// afterwards: its root directory, namespaces and privileges are gone.
pub fn serve(listener: UnixListener, exports: &[Export]) -> Result<(), Error> {
    let descriptors = privileges::raise_descriptor_limit()?;
    let view = exports::confine(exports)?;
    privileges::reduce()?;
    seccomp::install()?;
    server::serve(listener, view, descriptors)?;
    Ok(())
}

/// Why the server could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The exports could not be made the whole of the file system.
    #[error("cannot confine the file server to its exports")]
    Exports(#[from] ExportError),
    /// Privileges could not be given up, or limits not be raised.
    #[error("cannot set the file server's privileges and limits")]
    Privileges(#[from] PrivilegeError),
    /// The kernel refused the system call filter.
    #[error("cannot install the file server's system call filter")]
    Seccomp(#[from] seccompiler::Error),
    /// Serving failed.
    #[error("cannot serve the guest's file requests")]
    Serve(#[from] ServeError),
}
