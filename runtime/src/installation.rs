//! The files that a guest is booted from.

use std::env;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the guest's kernel, instead of `vmlinux` beside this program.
pub(crate) const KERNEL_VARIABLE: &str = "BULKHEAD_KERNEL";

/// Names the guest's initramfs, instead of `initramfs.cpio` beside this program.
pub(crate) const INITRAMFS_VARIABLE: &str = "BULKHEAD_INITRAMFS";

/// Where the guest's kernel and its first file system are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installation {
    /// The guest's kernel.
    pub(crate) kernel: PathBuf,
    /// The initramfs with the agent.
    pub(crate) initramfs: PathBuf,
}

/// A file of the installation cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the guest's {what}, {}; install it there, or name another in {variable}", path.display())]
pub(crate) struct MissingFile {
    what: &'static str,
    path: PathBuf,
    variable: &'static str,
    source: io::Error,
}

impl Installation {
    /// Finds the files: by the environment, else beside this program.
    pub(crate) fn find() -> Result<Self, MissingFile> {
        Ok(Self {
            kernel: find("kernel", KERNEL_VARIABLE, "vmlinux")?,
            initramfs: find("initramfs", INITRAMFS_VARIABLE, "initramfs.cpio")?,
        })
    }
}

/// Tells a process that works in another directory where the files are.
pub(crate) fn pass_on(command: &mut Command) -> Result<(), MissingFile> {
    for (what, variable) in [
        ("kernel", KERNEL_VARIABLE),
        ("initramfs", INITRAMFS_VARIABLE),
    ] {
        if let Some(path) = env::var_os(variable).map(PathBuf::from) {
            let absolute = std::path::absolute(&path).map_err(|source| MissingFile {
                what,
                path,
                variable,
                source,
            })?;
            command.env(variable, absolute);
        }
    }
    Ok(())
}

fn find(what: &'static str, variable: &'static str, name: &str) -> Result<PathBuf, MissingFile> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| MissingFile {
            what,
            path,
            variable,
            source,
        }
    };
    let path = match env::var_os(variable) {
        // The VMM works in another directory.
        Some(path) => std::path::absolute(&path).map_err(failed(Path::new(&path)))?,
        None => env::current_exe()
            .map_err(failed(Path::new(name)))?
            .with_file_name(name),
    };
    File::open(&path).map_err(failed(&path))?;
    Ok(path)
}
