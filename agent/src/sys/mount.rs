//! Changing mounts.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::mount::MountPropagationFlags;

use super::process::check;
use crate::plan::{Attributes, Propagation};

/// `struct mount_attr` (`include/uapi/linux/mount.h`).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace_fd: u64,
}

/// Changes attributes, and the propagation if one is given, of an open mount,
/// with those below it if `recursive`; `mount_setattr(2)`.
pub(crate) fn set_attributes(
    mount: impl AsFd,
    attributes: Attributes,
    propagation: Option<Propagation>,
    recursive: bool,
) -> io::Result<()> {
    let attr = MountAttr {
        set: attributes.set.bits().into(),
        clear: attributes.clear.bits().into(),
        propagation: propagation
            .map_or(MountPropagationFlags::empty(), |propagation| {
                propagation.kind
            })
            .bits()
            .into(),
        user_namespace_fd: 0,
    };
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string and `attr` a `struct mount_attr` of the
    // size told; both outlive the call, and the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    check(result)
}
