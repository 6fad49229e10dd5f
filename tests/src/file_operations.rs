//! What a file system does, operation by operation, as text: run on the host and in
//! a container, the two must be the same.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Timespec,
    Timestamps, XattrFlags, fallocate, fcntl_lock, flock, getxattr, inotify, linkat, listxattr,
    mknodat, openat, renameat_with, setxattr, statvfs, utimensat,
};

type Operation = fn(&Path) -> io::Result<String>;

/// By name; each has a directory of its own.
const OPERATIONS: &[(&str, Operation)] = &[
    ("modes", modes),
    ("owners", owners),
    ("symbolic links", symbolic_links),
    ("hard links", hard_links),
    ("times", times),
    ("sparse files", sparse_files),
    ("holes", holes),
    ("extended attributes", extended_attributes),
    ("locks of files", locks),
    ("locks of ranges", range_locks),
    ("files without a name", files_without_a_name),
    ("renames that do not replace", renames_that_do_not_replace),
    ("renames that exchange", renames_that_exchange),
    ("files that are deleted while open", deleted_while_open),
    ("appends", appends),
    ("truncation", truncation),
    ("copies in the kernel", copies),
    ("sockets", sockets),
    ("pipes", pipes),
    ("device nodes", device_nodes),
    ("many entries", many_entries),
    ("space", space),
    ("notifications", notifications),
    ("errors", errors),
];

/// Carries all of them out in `directory`, an empty one.
///
/// # Panics
/// If it cannot be written to.
pub fn report(directory: &Path) -> String {
    let line = |(name, operation): &(&str, Operation)| {
        let own = directory.join(name.replace(' ', "-"));
        fs::create_dir(&own).expect("a writable directory");
        let result = operation(&own).unwrap_or_else(|error| format!("{error}"));
        format!("{name}: {result}\n")
    };
    OPERATIONS.iter().map(line).collect()
}

fn mode_of(path: &Path) -> io::Result<u32> {
    Ok(fs::symlink_metadata(path)?.mode() & 0o7777)
}

fn modes(at: &Path) -> io::Result<String> {
    let file = at.join("file");
    File::create(&file)?;
    let mut seen = Vec::new();
    for mode in [0o644, 0o4755, 0o2711, 0o1777, 0] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        seen.push(format!("{:o}", mode_of(&file)?));
    }
    Ok(seen.join(" "))
}

fn owners(at: &Path) -> io::Result<String> {
    let file = at.join("file");
    File::create(&file)?;
    std::os::unix::fs::chown(&file, Some(12), Some(34))?;
    let metadata = file.metadata()?;
    Ok(format!("{}:{}", metadata.uid(), metadata.gid()))
}

fn symbolic_links(at: &Path) -> io::Result<String> {
    let link = at.join("link");
    symlink("nowhere/at all", &link)?;
    let target = fs::read_link(&link)?;
    let len = fs::symlink_metadata(&link)?.len();
    symlink("loop", at.join("loop"))?;
    let looped = File::open(at.join("loop")).map_err(|e| e.raw_os_error());
    Ok(format!("{} {len} {:?}", target.display(), looped.err()))
}

fn hard_links(at: &Path) -> io::Result<String> {
    let (one, other) = (at.join("one"), at.join("other"));
    fs::write(&one, "content")?;
    fs::hard_link(&one, &other)?;
    let (first, second) = (one.metadata()?, other.metadata()?);
    fs::write(&other, "changed")?;
    let same = first.ino() == second.ino();
    Ok(format!(
        "{same} {} {}",
        second.nlink(),
        fs::read_to_string(&one)?
    ))
}

fn times(at: &Path) -> io::Result<String> {
    let file = at.join("file");
    File::create(&file)?;
    let time = |tv_sec| Timespec {
        tv_sec,
        tv_nsec: 123_456_789,
    };
    let times = Timestamps {
        last_access: time(1_000_000_000),
        last_modification: time(2_000_000_000),
    };
    utimensat(CWD, &file, &times, AtFlags::empty())?;
    let seen = file.metadata()?;
    Ok(format!(
        "{} {} {}",
        seen.atime(),
        seen.mtime(),
        seen.mtime_nsec()
    ))
}

fn sparse_files(at: &Path) -> io::Result<String> {
    let file = File::create(at.join("file"))?;
    file.write_all_at(b"end", 1 << 30)?;
    let metadata = file.metadata()?;
    Ok(format!("{} {}", metadata.len(), metadata.blocks() < 100))
}

fn holes(at: &Path) -> io::Result<String> {
    let file = File::create_new(at.join("file"))?;
    file.write_all_at(&vec![7; 1 << 16], 0)?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, 4096, 8192)?;
    let mut byte = [1];
    File::open(at.join("file"))?.read_exact_at(&mut byte, 5000)?;
    let hole = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0))?;
    let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(hole))?;
    Ok(format!("{byte:?} {hole} {data}"))
}

fn extended_attributes(at: &Path) -> io::Result<String> {
    let file = at.join("file");
    File::create(&file)?;
    setxattr(&file, "user.colour", b"blue", XattrFlags::empty())?;
    let again = setxattr(&file, "user.colour", b"red", XattrFlags::CREATE);
    let mut value = [MaybeUninit::uninit(); 64];
    let (value, _) = getxattr(&file, "user.colour", &mut value)?;
    let mut names = [MaybeUninit::uninit(); 256];
    let (names, _) = listxattr(&file, &mut names)?;
    let names = String::from_utf8_lossy(names).contains("user.colour");
    let value = String::from_utf8_lossy(value).into_owned();
    Ok(format!("{value} {names} {again:?}"))
}

fn locks(at: &Path) -> io::Result<String> {
    let one = File::create(at.join("file"))?;
    let other = File::open(at.join("file"))?;
    flock(&one, FlockOperation::LockExclusive)?;
    let refused = flock(&other, FlockOperation::NonBlockingLockShared);
    flock(&one, FlockOperation::Unlock)?;
    let granted = flock(&other, FlockOperation::NonBlockingLockShared);
    Ok(format!("{refused:?} {granted:?}"))
}

fn range_locks(at: &Path) -> io::Result<String> {
    let file = File::create(at.join("file"))?;
    let locked = fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive);
    Ok(format!("{locked:?}"))
}

fn files_without_a_name(at: &Path) -> io::Result<String> {
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let mut file = File::from(openat(CWD, at, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(b"later named")?;
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    linkat(CWD, &name, CWD, at.join("named"), AtFlags::SYMLINK_FOLLOW)?;
    fs::read_to_string(at.join("named"))
}

fn renames_that_do_not_replace(at: &Path) -> io::Result<String> {
    fs::write(at.join("one"), "1")?;
    fs::write(at.join("other"), "2")?;
    let to = at.join("other");
    let refused = renameat_with(CWD, at.join("one"), CWD, &to, RenameFlags::NOREPLACE);
    Ok(format!("{refused:?} {}", fs::read_to_string(to)?))
}

fn renames_that_exchange(at: &Path) -> io::Result<String> {
    fs::write(at.join("one"), "1")?;
    fs::create_dir(at.join("other"))?;
    let to = at.join("other");
    renameat_with(CWD, at.join("one"), CWD, &to, RenameFlags::EXCHANGE)?;
    Ok(format!(
        "{} {}",
        fs::read_to_string(to)?,
        at.join("one").is_dir()
    ))
}

fn deleted_while_open(at: &Path) -> io::Result<String> {
    let path = at.join("file");
    let mut file = File::create_new(&path)?;
    fs::remove_file(&path)?;
    file.write_all(b"still here")?;
    let mut reader = File::open(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&file)
    ))?;
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    Ok(format!("{text} {}", file.metadata()?.nlink()))
}

fn appends(at: &Path) -> io::Result<String> {
    let path = at.join("file");
    let open = || File::options().create(true).append(true).open(&path);
    let (mut one, mut other) = (open()?, open()?);
    for _ in 0..3 {
        one.write_all(b"a")?;
        other.write_all(b"b")?;
    }
    fs::read_to_string(&path)
}

fn truncation(at: &Path) -> io::Result<String> {
    let mut file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(at.join("file"))?;
    file.write_all(b"0123456789")?;
    file.set_len(4)?;
    file.set_len(6)?;
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(format!("{bytes:?}"))
}

fn copies(at: &Path) -> io::Result<String> {
    fs::write(at.join("one"), vec![5; 100_000])?;
    let copied = fs::copy(at.join("one"), at.join("other"))?;
    let same = fs::read(at.join("one"))? == fs::read(at.join("other"))?;
    Ok(format!("{copied} {same}"))
}

fn sockets(at: &Path) -> io::Result<String> {
    let path = at.join("socket");
    let listener = UnixListener::bind(&path)?;
    let mut client = UnixStream::connect(&path)?;
    client.write_all(b"through a socket")?;
    drop(client);
    let mut text = String::new();
    listener.accept()?.0.read_to_string(&mut text)?;
    Ok(text)
}

fn pipes(at: &Path) -> io::Result<String> {
    let path = at.join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let mut both = File::options().read(true).write(true).open(&path)?;
    both.write_all(b"through a pipe")?;
    let mut bytes = [0; 14];
    both.read_exact(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What overlayfs marks deleted files with.
fn device_nodes(at: &Path) -> io::Result<String> {
    let path = at.join("whiteout");
    mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0)?;
    Ok(format!("{} {:o}", path.metadata()?.rdev(), mode_of(&path)?))
}

fn many_entries(at: &Path) -> io::Result<String> {
    for n in 0..1000 {
        File::create(at.join(n.to_string()))?;
    }
    let mut deleted = 0;
    for entry in fs::read_dir(at)? {
        fs::remove_file(entry?.path())?;
        deleted += 1;
    }
    Ok(format!("{deleted} {}", fs::read_dir(at)?.count()))
}

fn space(at: &Path) -> io::Result<String> {
    let space = statvfs(at)?;
    let has_room = space.f_bavail > 0 && space.f_blocks >= space.f_bfree;
    Ok(format!("{has_room} {} {}", space.f_bsize, space.f_namemax))
}

fn notifications(at: &Path) -> io::Result<String> {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK)?;
    let events = inotify::WatchFlags::CREATE | inotify::WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&watch, at, events)?;
    fs::write(at.join("new"), "x")?;
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    let mut seen = Vec::new();
    while let Ok(event) = reader.next() {
        let name = event
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        seen.push(format!("{:?} {}", event.events(), name.unwrap_or_default()));
    }
    Ok(seen.join(", "))
}

fn errors(at: &Path) -> io::Result<String> {
    fs::write(at.join("file"), "")?;
    fs::create_dir_all(at.join("full/inner"))?;
    let attempts: [(&str, io::Result<()>); 7] = [
        ("exists", File::create_new(at.join("file")).map(drop)),
        ("directory exists", fs::create_dir(at.join("full"))),
        ("not empty", fs::remove_dir(at.join("full"))),
        ("is a directory", File::create(at.join("full")).map(drop)),
        ("not a directory", File::open(at.join("file/x")).map(drop)),
        ("missing", File::open(at.join("none")).map(drop)),
        ("too long", File::create(at.join("x".repeat(300))).map(drop)),
    ];
    let told = attempts.map(|(name, result)| {
        let code = result.err().and_then(|error| error.raw_os_error());
        format!("{name} {}", code.unwrap_or_default())
    });
    Ok(told.join(", "))
}
