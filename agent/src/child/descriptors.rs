//! The descriptors of a new process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, makedev, open};

use super::control::Control;
use super::error::{Context, Result};
use super::resolve::Root;
use crate::stdio::{self, Which};
use crate::sys::{self, Forked};

/// Standard streams, in order: the process's ends of pipes.
pub(crate) type Streams = [Option<OwnedFd>; 3];

/// Leaves the process with its standard streams, the channel to the agent,
/// and what else is in `keep`; everything else of the agent's is closed.
pub(super) fn arrange(
    proof: &Forked,
    streams: Streams,
    control: OwnedFd,
    keep: Option<BorrowedFd<'_>>,
) -> Result<Control> {
    let take_streams = || {
        stdio::open_null(streams.each_ref().map(Option::is_none))?;
        // None of these is a standard stream itself: the agent's are open.
        stdio::set(
            streams
                .each_ref()
                .map(|stream| Some(stream.as_ref()?.as_fd())),
        )?;
        std::io::Result::Ok(())
    };
    take_streams().step("take the standard streams")?;
    let kept: Vec<_> = keep.into_iter().chain([control.as_fd()]).collect();
    sys::close_all_but(proof, &kept).step("close the agent's descriptors")?;
    // Closed already, and the number may be somebody else's soon.
    std::mem::forget(streams);
    Ok(Control(control))
}

/// Gives absent streams the container's own `/dev/null`: the guest's would be
/// a way to a file that is not the container's.
pub(super) fn replace_null(absent: Which) -> Result<()> {
    if absent == [false; 3] {
        return Ok(());
    }
    let Some(null) = own_null() else {
        return Ok(());
    };
    stdio::replace(absent, null).step("open /dev/null")
}

/// The container's `/dev/null`, if it is what its name says.
fn own_null() -> Option<OwnedFd> {
    let root = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let path = Path::new("/dev/null");
    let root = Root::new(root);
    let stat = fstat(root.open(path, OFlags::PATH).ok()?).ok()?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(1, 3);
    let opened = is_null
        .then(|| root.open(path, OFlags::RDWR | OFlags::NONBLOCK))?
        .ok()?;
    // It may have been replaced in between.
    (fstat(&opened).ok()?.st_rdev == makedev(1, 3)).then_some(opened)
}
