//! Paths within a container's root file system.
//!
//! The image is hostile: any component may be a symbolic link to anywhere.
//! All look-ups go through `openat2` with `RESOLVE_IN_ROOT`, which treats the
//! root file system as `/`, and what is missing is made within directories
//! that were opened so.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat};
use rustix::io::{Errno, Result};

/// As many as the kernel follows in one look-up.
const MAX_LINKS: usize = 40;
/// How often a look-up is tried again that a concurrent rename disturbed.
const MAX_DISTURBANCES: usize = 16;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// The root directory of a container.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens what a path of the container names.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let mut flags = flags | OFlags::CLOEXEC;
        // With O_PATH nothing is opened that could become a terminal, and
        // openat2 takes no further flags.
        flags.set(OFlags::NOCTTY, !flags.contains(OFlags::PATH));
        let in_root = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let open = || openat2(&self.0, path, flags, Mode::empty(), in_root);
        let disturbed = |result: &Result<_>| matches!(result, Err(Errno::AGAIN));
        let mut results = std::iter::repeat_with(open).take(MAX_DISTURBANCES);
        results
            .find(|result| !disturbed(result))
            .unwrap_or(Err(Errno::AGAIN))
    }

    /// Opens a directory, after making whatever of it is missing. Links that
    /// point to something missing are followed as if it were there: many
    /// images have a `/var/run` that leads to a `/run` they lack.
    pub(super) fn make_directory(&self, path: &Path) -> Result<OwnedFd> {
        match self.open(path, DIRECTORY) {
            Err(Errno::NOENT) => Walk::new(self, path)?.make(),
            other => other,
        }
    }

    /// Opens a file (anything but a directory), after making an empty one, and
    /// the directories above it, if there is none.
    pub(super) fn make_file(&self, path: &Path) -> Result<OwnedFd> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.open(&path, OFlags::PATH) {
                Err(Errno::NOENT) => {}
                other => return other,
            }
            let (parent, name) = self.make_parent(&path)?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            match openat(&parent, name, flags, Mode::from_raw_mode(0o644)) {
                Err(Errno::EXIST) => {
                    let target = link_target(parent.as_fd(), name)?;
                    path = path.parent().unwrap_or(Path::new("/")).join(target);
                }
                other => return other,
            }
        }
        Err(Errno::LOOP)
    }

    /// Opens the directory above a path, made if it is missing, and tells the
    /// last component.
    fn make_parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.make_directory(parent)?, name))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A walk along a path that makes missing directories.
struct Walk<'a> {
    root: &'a Root,
    /// Where it has come: a path, and the directory that it leads to.
    done: PathBuf,
    directory: OwnedFd,
    rest: VecDeque<OsString>,
    links: usize,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Root, path: &Path) -> Result<Self> {
        Ok(Self {
            root,
            done: "/".into(),
            directory: root.open(Path::new("/"), DIRECTORY)?,
            rest: components(path).collect(),
            links: 0,
        })
    }

    fn make(mut self) -> Result<OwnedFd> {
        while let Some(name) = self.rest.pop_front() {
            match self.enter(&name) {
                Err(Errno::NOENT) => self.make_and_enter(&name)?,
                other => other?,
            }
        }
        Ok(self.directory)
    }

    fn enter(&mut self, name: &OsStr) -> Result<()> {
        let next = self.done.join(name);
        self.directory = self.root.open(&next, DIRECTORY)?;
        self.done = next;
        Ok(())
    }

    fn make_and_enter(&mut self, name: &OsStr) -> Result<()> {
        match mkdirat(&self.directory, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.enter(name),
            Err(Errno::EXIST) => self.follow(name),
            Err(error) => Err(error),
        }
    }

    /// Goes on along a link to something that is missing.
    fn follow(&mut self, name: &OsStr) -> Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let target = link_target(self.directory.as_fd(), name)?;
        if target.is_absolute() {
            self.done = "/".into();
            self.directory = self.root.open(&self.done, DIRECTORY)?;
        }
        for component in components(&target).rev() {
            self.rest.push_front(component);
        }
        Ok(())
    }
}

/// The components of a path, `..` included, its root left out.
fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    let rootless = |component: &std::path::Component<'_>| {
        !matches!(
            component,
            std::path::Component::RootDir | std::path::Component::CurDir
        )
    };
    path.components()
        .filter(rootless)
        .map(|component| component.as_os_str().to_owned())
}

fn link_target(directory: BorrowedFd<'_>, name: &OsStr) -> Result<PathBuf> {
    let target = readlinkat(directory, name, Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()).into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    /// A root with something outside it that must not be reached.
    struct Fixture {
        outer: TempDir,
        root: Root,
    }

    impl Fixture {
        fn new() -> Self {
            let outer = TempDir::new().unwrap();
            fs::create_dir(outer.path().join("root")).unwrap();
            fs::create_dir(outer.path().join("outside")).unwrap();
            let directory = fs::File::open(outer.path().join("root")).unwrap();
            Self {
                root: Root::new(directory.into()),
                outer,
            }
        }

        fn inside(&self, path: &str) -> PathBuf {
            self.outer.path().join("root").join(path)
        }

        fn outside_is_untouched(&self) -> bool {
            fs::read_dir(self.outer.path().join("outside"))
                .unwrap()
                .next()
                .is_none()
                && fs::read_dir(self.outer.path()).unwrap().count() == 2
        }
    }

    #[test]
    fn missing_directories_are_made() {
        let fixture = Fixture::new();
        fixture.root.make_directory(Path::new("/a/b/c")).unwrap();
        assert!(fixture.inside("a/b/c").is_dir());
        fixture.root.make_file(Path::new("/a/x/file")).unwrap();
        assert!(fixture.inside("a/x/file").is_file());
    }

    #[test]
    fn links_to_missing_directories_are_followed_within_the_root() {
        let fixture = Fixture::new();
        fs::create_dir(fixture.inside("var")).unwrap();
        symlink("/run", fixture.inside("var/run")).unwrap();
        fixture
            .root
            .make_directory(Path::new("/var/run/secrets"))
            .unwrap();
        assert!(fixture.inside("run/secrets").is_dir());

        symlink("../run/new/resolv.conf", fixture.inside("var/resolv.conf")).unwrap();
        fixture
            .root
            .make_file(Path::new("/var/resolv.conf"))
            .unwrap();
        assert!(fixture.inside("run/new/resolv.conf").is_file());
    }

    #[test]
    fn links_out_of_the_root_stay_inside() {
        let fixture = Fixture::new();
        let outside = fixture.outer.path().join("outside");
        symlink(&outside, fixture.inside("absolute")).unwrap();
        symlink("../../../outside", fixture.inside("relative")).unwrap();
        for path in [
            "/absolute/x",
            "/relative/y",
            "/../outside/z",
            "/absolute",
            "/relative",
        ] {
            fixture.root.make_directory(Path::new(path)).unwrap();
        }
        let _ = fixture.root.make_file(Path::new("/absolute/file")).unwrap();
        assert!(fixture.outside_is_untouched());
    }

    #[test]
    fn loops_end() {
        let fixture = Fixture::new();
        symlink("b", fixture.inside("a")).unwrap();
        symlink("a", fixture.inside("b")).unwrap();
        let error = fixture.root.make_directory(Path::new("/a/x")).unwrap_err();
        assert_eq!(error, Errno::LOOP);
        assert!(fixture.root.make_file(Path::new("/a")).is_err());
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let fixture = Fixture::new();
        fs::write(fixture.inside("file"), "").unwrap();
        let error = fixture
            .root
            .make_directory(Path::new("/file/x"))
            .unwrap_err();
        assert_eq!(error, Errno::NOTDIR);
    }

    fn component() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "c", "..", ".", "outside"]).prop_map(String::from)
    }

    fn path() -> impl Strategy<Value = String> {
        (any::<bool>(), prop::collection::vec(component(), 1..6)).prop_map(|(absolute, parts)| {
            format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"))
        })
    }

    proptest! {
        #[test]
        fn nothing_outside_is_ever_touched(
            links in prop::collection::vec((path(), path()), 0..5),
            wanted in prop::collection::vec(path(), 1..4),
        ) {
            let fixture = Fixture::new();
            for (at, target) in links {
                // Only where the link itself lands inside; the attacker writes the image.
                if !at.contains("..") {
                    let at = fixture.inside(at.trim_start_matches('/'));
                    if at.parent().is_some_and(|parent| fs::canonicalize(parent).is_ok_and(
                        |parent| parent.starts_with(fs::canonicalize(fixture.inside("")).unwrap())))
                    {
                        let _ = symlink(target, at);
                    }
                }
            }
            for path in wanted {
                let _ = fixture.root.make_directory(Path::new(&path));
                let _ = fixture.root.make_file(Path::new(&path));
            }
            prop_assert!(fixture.outside_is_untouched());
        }
    }
}
