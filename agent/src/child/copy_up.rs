//! Copying what an image has at some place into the empty tmpfs that will cover
//! it: the mount option `tmpcopyup`.
//!
//! The image is hostile. Links are copied, never followed; how much can be
//! copied is bounded by the tmpfs and by the container's cgroup.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, fstat, mkdirat,
    mknodat, openat, readlinkat, sendfile, statat, symlinkat,
};
use rustix::io::{Errno, Result};

/// Deepest tree that is copied.
const MAX_DEPTH: usize = 128;

/// As much of a file as one system call copies.
const CHUNK_LEN: usize = 1 << 20;

const DIRECTORY: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Copies what is in one directory into another, which is empty.
pub(super) fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    copy_entries(from, to, MAX_DEPTH)
}

fn copy_entries(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for entry in Dir::new(openat(from, c".", flags, Mode::empty())?)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => copy_directory(from, to, name, depth)?,
        FileType::RegularFile => copy_file(from, to, name)?,
        FileType::Symlink => {
            symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
            return take_owner(to, name, &stat);
        }
        kind => match mknodat(to, name, kind, Mode::empty(), stat.st_rdev) {
            // A user namespace has no device nodes of its own.
            Err(Errno::PERM) => return Ok(()),
            other => other?,
        },
    }
    take_owner(to, name, &stat)?;
    // After the owner, whose change takes the setuid bit away.
    chmodat(
        to,
        name,
        Mode::from_raw_mode(stat.st_mode),
        AtFlags::empty(),
    )
}

fn copy_directory(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    depth: usize,
) -> Result<()> {
    let depth = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
    mkdirat(to, name, Mode::RWXU)?;
    let open = |parent| openat(parent, name, DIRECTORY, Mode::empty());
    copy_entries(open(from)?.as_fd(), open(to)?.as_fd(), depth)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let source = openat(from, name, flags | OFlags::RDONLY, Mode::empty())?;
    // It may have been replaced since it was looked at.
    if FileType::from_raw_mode(fstat(&source)?.st_mode) != FileType::RegularFile {
        return Err(Errno::STALE);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let target = openat(to, name, flags, Mode::RUSR)?;
    while sendfile(&target, &source, None, CHUNK_LEN)? > 0 {}
    Ok(())
}

fn take_owner(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    chownat(directory, name, Some(uid), Some(gid), flags)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    use rustix::fs::CWD;
    use tempfile::TempDir;

    use super::*;

    fn copy(from: &Path, to: &Path) -> Result<()> {
        let (from, to) = (File::open(from).unwrap(), File::open(to).unwrap());
        copy_tree(from.as_fd(), to.as_fd())
    }

    #[test]
    fn a_tree_is_copied_with_modes_and_links() {
        let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        fs::create_dir_all(from.path().join("a/b")).unwrap();
        fs::write(from.path().join("a/b/file"), "text").unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&from.path().join("a/b/file"), 0o4751);
        mode(&from.path().join("a"), 0o1733);
        symlink("/etc/passwd", from.path().join("link")).unwrap();
        let fifo = from.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        copy(from.path(), to.path()).unwrap();
        let copied = |path| fs::symlink_metadata(to.path().join(path)).unwrap();
        assert_eq!(fs::read(to.path().join("a/b/file")).unwrap(), b"text");
        assert_eq!(copied("a/b/file").mode() & 0o7777, 0o4751);
        assert_eq!(copied("a").mode() & 0o7777, 0o1733);
        assert_eq!(copied("fifo").mode(), 0o10_400);
        let link = fs::read_link(to.path().join("link")).unwrap();
        assert_eq!(link, Path::new("/etc/passwd"));
    }

    #[test]
    fn files_longer_than_a_system_call_copies_are_complete() {
        let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let text: Vec<_> = (0..CHUNK_LEN * 2 + 7).map(|n| (n % 251) as u8).collect();
        fs::write(from.path().join("file"), &text).unwrap();
        copy(from.path(), to.path()).unwrap();
        assert_eq!(fs::read(to.path().join("file")).unwrap(), text);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_refused() {
        let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        fs::create_dir_all(from.path().join("d/".repeat(MAX_DEPTH + 1))).unwrap();
        assert_eq!(copy(from.path(), to.path()), Err(Errno::NAMETOOLONG));
    }
}
