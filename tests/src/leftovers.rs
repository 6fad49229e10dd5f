//! What a test must not leave behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Environment variable that marks every process a test starts, directly or not.
pub(crate) const TAG: &str = "BULKHEAD_TEST_WORLD";

/// How long a process may take to go after the command that ended it returned.
/// Only the kernel's own work is left then.
const GRACE: Duration = Duration::from_secs(5);

/// Mounts and cgroups of the host.
#[derive(Debug)]
pub(crate) struct Snapshot {
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
}

impl Snapshot {
    pub(crate) fn take() -> Self {
        Self {
            mounts: mounts(),
            cgroups: cgroups(Path::new("/sys/fs/cgroup")),
        }
    }
}

/// A process that a test started.
#[derive(Debug)]
pub(crate) struct TaggedProcess {
    pub(crate) pid: i32,
    pub(crate) command_line: Vec<String>,
}

/// Live processes that carry `tag`; zombies have no environment any more.
pub(crate) fn processes(tag: &str) -> Vec<TaggedProcess> {
    let marker = format!("{TAG}={tag}").into_bytes();
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| environ.split(|b| *b == 0).any(|v| v == marker))
        })
        .map(|pid| TaggedProcess {
            pid,
            command_line: command_line(pid),
        })
        .collect()
}

fn command_line(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|b| *b == 0)
        .filter(|argument| !argument.is_empty())
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// Kills what a failed test left, so that the next one starts clean.
pub(crate) fn kill_all(tag: &str) {
    for process in processes(tag) {
        if let Some(pid) = Pid::from_raw(process.pid) {
            // It may have gone by itself in the meantime.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

pub(crate) fn assert_none(tag: &str, state_root: &Path, before: &Snapshot) {
    let deadline = Instant::now() + GRACE;
    while !processes(tag).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = processes(tag);
    kill_all(tag);
    assert!(left.is_empty(), "processes left behind: {left:#?}");

    let now = Snapshot::take();
    let mounts: Vec<_> = now.mounts.difference(&before.mounts).collect();
    assert!(mounts.is_empty(), "mounts left behind: {mounts:#?}");
    let cgroups: Vec<_> = now.cgroups.difference(&before.cgroups).collect();
    assert!(cgroups.is_empty(), "cgroups left behind: {cgroups:#?}");
    let files = files_of_sandboxes(state_root);
    assert!(files.is_empty(), "files left behind: {files:#?}");
}

/// Everything below `containers/` and `sandboxes/`.
fn files_of_sandboxes(state_root: &Path) -> Vec<PathBuf> {
    ["containers", "sandboxes"]
        .iter()
        .filter_map(|directory| fs::read_dir(state_root.join(directory)).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .collect()
}

fn mounts() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    table.lines().map(str::to_owned).collect()
}

fn cgroups(directory: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return BTreeSet::new();
    };
    let mut found = BTreeSet::new();
    for entry in entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
    {
        found.extend(cgroups(&entry.path()));
        found.insert(entry.path());
    }
    found
}
