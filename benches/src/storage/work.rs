//! What is done in a container, and timed there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::prepare::{DIRECTORIES, FILE_LEN, FILES};
use crate::timeline::monotonic_ns;

/// How much is read and written at once where it is done in order.
const LARGE: usize = 1 << 20;

/// The same at random, and how often.
const SMALL: usize = 4096;
const ACCESSES: usize = 512;

/// Something that is timed.
pub(super) struct Workload {
    /// What it is called in reports.
    pub(super) name: &'static str,
    /// How often as long as under the other runtime it may take.
    pub(super) goal: f64,
    run: fn(&Path) -> io::Result<()>,
}

/// What is in order or in the guest's cache, and what is about names and attributes.
const DATA: f64 = 1.5;
const METADATA: f64 = 3.0;

/// In the order in which they run: what is called `again` finds the guest's caches warm.
pub(super) const WORKLOADS: [Workload; 14] = [
    workload("read 8 MiB in order", DATA, |d| read(&d.join("in-order"))),
    workload("read them again", DATA, |d| read(&d.join("in-order"))),
    workload("write 8 MiB in order", DATA, |d| write(&d.join("written"))),
    workload("read 4 KiB at random, 512 times", METADATA, read_at_random),
    workload(
        "write 4 KiB at random, 512 times",
        METADATA,
        write_at_random,
    ),
    workload("list a tree of 500 files", METADATA, |d| {
        list(&d.join("tree"))
    }),
    workload("look at each of its files", METADATA, |d| {
        look(&d.join("tree"))
    }),
    workload("look at them again", DATA, |d| look(&d.join("tree"))),
    workload("git status", METADATA, git_status),
    workload("git status again", METADATA, git_status),
    workload("unpack 500 files", METADATA, |d| {
        program(
            Command::new("tar").args(["-xf", "../tree.tar"]),
            &d.join("tmp"),
        )
    }),
    workload("remove them", METADATA, |d| {
        fs::remove_dir_all(d.join("tmp/tree"))
    }),
    workload("build a program", DATA, |d| {
        program(Command::new("make").arg("--quiet"), &d.join("build"))
    }),
    workload("build it again", DATA, |d| {
        program(
            Command::new("make").args(["--quiet", "--always-make"]),
            &d.join("build"),
        )
    }),
];

const fn workload(name: &'static str, goal: f64, run: fn(&Path) -> io::Result<()>) -> Workload {
    Workload { name, goal, run }
}

/// Runs all workloads in `directory`, and prints how many nanoseconds each took, as a JSON
/// object.
pub fn work(directory: &Path) -> io::Result<()> {
    fs::create_dir(directory.join("tmp"))?;
    warm_up(directory)?;
    let mut durations = BTreeMap::new();
    for workload in &WORKLOADS {
        let start = monotonic_ns();
        (workload.run)(directory)?;
        durations.insert(workload.name, monotonic_ns() - start);
    }
    println!("{}", serde_json::to_string(&durations)?);
    Ok(())
}

/// Makes what takes programs to make, and has each of them used once: they are read from the
/// host, too. Of what is worked on, nothing is left in the guest's cache.
fn warm_up(directory: &Path) -> io::Result<()> {
    let script = "tar -cf tree.tar tree && tar -xf tree.tar -C tmp && rm -r tmp/tree \
                  && cp -r tree repository && cd repository && git init --quiet && git add --all \
                  && git -c user.name=a -c user.email=a@example.org commit --quiet --message all \
                  && git status --short && cd .. && cp -r build tmp && make --quiet -C tmp/build \
                  && rm -r tmp/build && sync && echo 3 >/proc/sys/vm/drop_caches";
    program(Command::new("sh").args(["-c", script]), directory)?;
    // The programs themselves are to be there again.
    let script =
        "tar --version && git --version && make --version && gcc -c -x c -o /dev/null build/f0.c";
    program(Command::new("sh").args(["-c", script]), directory)
}

fn read(path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; LARGE];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let buffer = vec![1; LARGE];
    for _ in 0..FILE_LEN / LARGE {
        file.write_all(&buffer)?;
    }
    file.sync_all()
}

fn read_at_random(directory: &Path) -> io::Result<()> {
    let file = File::open(directory.join("at-random"))?;
    let mut buffer = [0; SMALL];
    offsets().try_for_each(|offset| file.read_exact_at(&mut buffer, offset))
}

fn write_at_random(directory: &Path) -> io::Result<()> {
    let file = File::options()
        .write(true)
        .open(directory.join("rewritten"))?;
    offsets().try_for_each(|offset| file.write_all_at(&[2; SMALL], offset))?;
    file.sync_all()
}

/// The same ones each time.
fn offsets() -> impl Iterator<Item = u64> {
    let mut random = fastrand::Rng::with_seed(1);
    let blocks = (FILE_LEN / SMALL) as u64;
    std::iter::repeat_with(move || random.u64(..blocks) * SMALL as u64).take(ACCESSES)
}

fn list(tree: &Path) -> io::Result<()> {
    let mut count = 0;
    for directory in fs::read_dir(tree)? {
        count += fs::read_dir(directory?.path())?.count();
    }
    expect(count)
}

fn look(tree: &Path) -> io::Result<()> {
    let mut count = 0;
    for directory in fs::read_dir(tree)? {
        for file in fs::read_dir(directory?.path())? {
            count += usize::from(file?.metadata()?.len() > 0);
        }
    }
    expect(count)
}

fn expect(count: usize) -> io::Result<()> {
    if count == DIRECTORIES * FILES {
        Ok(())
    } else {
        Err(io::Error::other(format!("{count} files in the tree")))
    }
}

fn git_status(directory: &Path) -> io::Result<()> {
    let mut git = Command::new("git");
    program(
        git.args(["status", "--short"]),
        &directory.join("repository"),
    )
}

fn program(command: &mut Command, directory: &Path) -> io::Result<()> {
    let run = command
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()?;
    if run.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&run.stderr).into_owned();
    Err(io::Error::other(format!("{command:?}: {message}")))
}
