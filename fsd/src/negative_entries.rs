//! Names that do not exist, for the guest to remember.
//!
//! A search along a path (`PATH`, a compiler's headers, a language's modules) asks for
//! many of them again and again. What the guest may believe of names that exist, it may
//! believe of these.

use std::ffi::CStr;
use std::io;
use std::time::Duration;

use virtiofsd::filesystem::{
    Context, Entry, Extensions, FileSystem, FsOptions, GetxattrReply, ListxattrReply, OpenOptions,
    SerializableFileSystem, SetattrValid, SetxattrFlags, ZeroCopyReader, ZeroCopyWriter,
};
use virtiofsd::fuse::{Attr, SetattrIn};

/// A file system whose lookups that find nothing are answered by an entry without an inode,
/// which the guest keeps, instead of an error, which it does not.
pub(crate) struct NegativeEntries<F> {
    inner: F,
    validity: Duration,
}

impl<F> NegativeEntries<F> {
    /// The guest may keep a name's absence for `validity`.
    pub(crate) fn new(inner: F, validity: Duration) -> Self {
        Self { inner, validity }
    }

    fn absent(&self) -> Entry {
        Entry {
            inode: 0,
            generation: 0,
            attr: Attr::default(),
            attr_timeout: Duration::ZERO,
            entry_timeout: self.validity,
        }
    }
}

/// Methods that are the inner file system's.
macro_rules! pass_on {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $name(&self, $($argument: $type),*) $(-> $result)? {
            self.inner.$name($($argument),*)
        })*
    };
}

#[allow(clippy::too_many_arguments)]
impl<F: FileSystem> FileSystem for NegativeEntries<F> {
    type Inode = F::Inode;
    type Handle = F::Handle;
    type DirIter = F::DirIter;

    fn lookup(&self, ctx: Context, parent: F::Inode, name: &CStr) -> io::Result<Entry> {
        match self.inner.lookup(ctx, parent, name) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(self.absent()),
            other => other,
        }
    }

    fn read<W: ZeroCopyWriter>(
        &self,
        ctx: Context,
        inode: F::Inode,
        handle: F::Handle,
        writer: W,
        size: u32,
        offset: u64,
        lock_owner: Option<u64>,
        flags: u32,
    ) -> io::Result<usize> {
        self.inner
            .read(ctx, inode, handle, writer, size, offset, lock_owner, flags)
    }

    fn write<R: ZeroCopyReader>(
        &self,
        ctx: Context,
        inode: F::Inode,
        handle: F::Handle,
        reader: R,
        size: u32,
        offset: u64,
        lock_owner: Option<u64>,
        delayed: bool,
        kill_priv: bool,
        flags: u32,
    ) -> io::Result<usize> {
        self.inner.write(
            ctx, inode, handle, reader, size, offset, lock_owner, delayed, kill_priv, flags,
        )
    }

    pass_on! {
        fn init(capable: FsOptions) -> io::Result<FsOptions>;
        fn destroy();
        fn forget(ctx: Context, inode: F::Inode, count: u64);
        fn batch_forget(ctx: Context, requests: Vec<(F::Inode, u64)>);
        fn getattr(ctx: Context, inode: F::Inode, handle: Option<F::Handle>)
            -> io::Result<(Attr, Duration)>;
        fn setattr(
            ctx: Context, inode: F::Inode, attr: SetattrIn, handle: Option<F::Handle>,
            valid: SetattrValid
        ) -> io::Result<(Attr, Duration)>;
        fn readlink(ctx: Context, inode: F::Inode) -> io::Result<Vec<u8>>;
        fn symlink(
            ctx: Context, target: &CStr, parent: F::Inode, name: &CStr, extensions: Extensions
        ) -> io::Result<Entry>;
        fn mknod(
            ctx: Context, parent: F::Inode, name: &CStr, mode: u32, rdev: u32, umask: u32,
            extensions: Extensions
        ) -> io::Result<Entry>;
        fn mkdir(
            ctx: Context, parent: F::Inode, name: &CStr, mode: u32, umask: u32,
            extensions: Extensions
        ) -> io::Result<Entry>;
        fn unlink(ctx: Context, parent: F::Inode, name: &CStr) -> io::Result<()>;
        fn rmdir(ctx: Context, parent: F::Inode, name: &CStr) -> io::Result<()>;
        fn rename(
            ctx: Context, parent: F::Inode, name: &CStr, new_parent: F::Inode, new_name: &CStr,
            flags: u32
        ) -> io::Result<()>;
        fn link(ctx: Context, inode: F::Inode, parent: F::Inode, name: &CStr)
            -> io::Result<Entry>;
        fn open(ctx: Context, inode: F::Inode, kill_priv: bool, flags: u32)
            -> io::Result<(Option<F::Handle>, OpenOptions)>;
        fn create(
            ctx: Context, parent: F::Inode, name: &CStr, mode: u32, kill_priv: bool, flags: u32,
            umask: u32, extensions: Extensions
        ) -> io::Result<(Entry, Option<F::Handle>, OpenOptions)>;
        fn flush(ctx: Context, inode: F::Inode, handle: F::Handle, lock_owner: u64)
            -> io::Result<()>;
        fn fsync(ctx: Context, inode: F::Inode, datasync: bool, handle: F::Handle)
            -> io::Result<()>;
        fn fallocate(
            ctx: Context, inode: F::Inode, handle: F::Handle, mode: u32, offset: u64, length: u64
        ) -> io::Result<()>;
        fn release(
            ctx: Context, inode: F::Inode, flags: u32, handle: F::Handle, flush: bool,
            flock_release: bool, lock_owner: Option<u64>
        ) -> io::Result<()>;
        fn statfs(ctx: Context, inode: F::Inode) -> io::Result<libc::statvfs64>;
        fn setxattr(
            ctx: Context, inode: F::Inode, name: &CStr, value: &[u8], flags: u32,
            extra_flags: SetxattrFlags
        ) -> io::Result<()>;
        fn getxattr(ctx: Context, inode: F::Inode, name: &CStr, size: u32)
            -> io::Result<GetxattrReply>;
        fn listxattr(ctx: Context, inode: F::Inode, size: u32) -> io::Result<ListxattrReply>;
        fn removexattr(ctx: Context, inode: F::Inode, name: &CStr) -> io::Result<()>;
        fn opendir(ctx: Context, inode: F::Inode, flags: u32)
            -> io::Result<(Option<F::Handle>, OpenOptions)>;
        fn readdir(
            ctx: Context, inode: F::Inode, handle: F::Handle, size: u32, offset: u64
        ) -> io::Result<F::DirIter>;
        fn fsyncdir(ctx: Context, inode: F::Inode, datasync: bool, handle: F::Handle)
            -> io::Result<()>;
        fn releasedir(ctx: Context, inode: F::Inode, flags: u32, handle: F::Handle)
            -> io::Result<()>;
        fn access(ctx: Context, inode: F::Inode, mask: u32) -> io::Result<()>;
        fn lseek(ctx: Context, inode: F::Inode, handle: F::Handle, offset: u64, whence: u32)
            -> io::Result<u64>;
        fn copyfilerange(
            ctx: Context, inode: F::Inode, handle: F::Handle, offset: u64, to_inode: F::Inode,
            to_handle: F::Handle, to_offset: u64, len: u64, flags: u64
        ) -> io::Result<usize>;
        fn syncfs(ctx: Context, inode: F::Inode) -> io::Result<()>;
    }
}

/// There is no migration.
impl<F> SerializableFileSystem for NegativeEntries<F> {}

#[cfg(test)]
mod tests {
    use virtiofsd::filesystem::{DirEntry, DirectoryIterator};

    use super::*;

    /// Has the name `there`, forbids to look for `secret`, and has nothing else.
    struct Inner;

    struct NoEntries;

    impl DirectoryIterator for NoEntries {
        fn next(&mut self) -> Option<DirEntry<'_>> {
            None
        }
    }

    impl FileSystem for Inner {
        type Inode = u64;
        type Handle = u64;
        type DirIter = NoEntries;

        fn lookup(&self, _ctx: Context, _parent: u64, name: &CStr) -> io::Result<Entry> {
            let code = match name.to_bytes() {
                b"there" => {
                    return Ok(Entry {
                        inode: 7,
                        generation: 1,
                        attr: Attr::default(),
                        attr_timeout: Duration::ZERO,
                        entry_timeout: Duration::from_secs(5),
                    });
                }
                b"secret" => libc::EACCES,
                _ => libc::ENOENT,
            };
            Err(io::Error::from_raw_os_error(code))
        }
    }
    const VALIDITY: Duration = Duration::from_secs(3);

    fn lookup(name: &CStr) -> io::Result<Entry> {
        let ctx = Context {
            uid: 0.into(),
            gid: 0.into(),
            pid: 1,
        };
        NegativeEntries::new(Inner, VALIDITY).lookup(ctx, 1, name)
    }

    #[test]
    fn absence_may_be_remembered() {
        let entry = lookup(c"not there").unwrap();
        assert_eq!((entry.inode, entry.entry_timeout), (0, VALIDITY));
    }

    #[test]
    fn what_is_there_and_other_errors_are_told() {
        assert_eq!(lookup(c"there").unwrap().inode, 7);
        let error = lookup(c"secret").map(|_| ()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }
}
