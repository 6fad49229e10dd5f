//! What a pod costs its host.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::error::Error;

/// Proportional set sizes, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Of all processes.
    pub(crate) pod: u64,
    /// Of what is the guest's in them: its RAM, and what is mapped over it.
    pub(crate) guest: u64,
}

/// What the guest's memory consists of, by the names of its mappings.
const GUEST: [&str; 3] = ["/memfd:guest-ram", "/vmlinux", "/initramfs.cpio"];

/// The memory of the process `root` and all its descendants: the monitor, the
/// VMM with the guest's memory, the file server.
pub(crate) fn of_pod(root: u32) -> Result<Memory, Error> {
    let mut total = of_process(root)?;
    add_descendants(root, &mut total)?;
    Ok(total)
}

fn add_descendants(parent: u32, total: &mut Memory) -> Result<(), Error> {
    for child in children(parent)? {
        match of_process(child) {
            Ok(memory) => {
                total.pod += memory.pod;
                total.guest += memory.guest;
                add_descendants(child, total)?;
            }
            // A helper that is gone meanwhile has no memory.
            Err(Error::Io { source, .. }) if is_gone(&source) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn of_process(pid: u32) -> Result<Memory, Error> {
    let path = format!("/proc/{pid}/smaps");
    let path = Path::new(&path);
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(sum(&text))
}

/// By when it is noticed: at the opening, or at a read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// Adds up what `/proc/PID/smaps` tells (`proc_pid_smaps(5)`): for each mapping
/// a line with its name, and lines of the form `Pss: 4 kB`.
fn sum(smaps: &str) -> Memory {
    let mut memory = Memory::default();
    let mut is_guest = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Pss:") => {
                let kib: u64 = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
                memory.pod += kib;
                memory.guest += if is_guest { kib } else { 0 };
            }
            Some(word) if !word.ends_with(':') => {
                let name = words.nth(4).unwrap_or("");
                is_guest = GUEST.iter().any(|guest| name.ends_with(guest));
            }
            _ => {}
        }
    }
    memory
}

/// From the processes' own word on their parents: `/proc/PID/task/TID/children`
/// is not there on every host (`CONFIG_PROC_CHILDREN`).
fn children(pid: u32) -> Result<Vec<u32>, Error> {
    let mut children = Vec::new();
    let proc = Path::new("/proc");
    for entry in fs::read_dir(proc).map_err(Error::io("list", proc))? {
        let name = entry.map_err(Error::io("list", proc))?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if parent(child) == Some(pid) {
            children.push(child);
        }
    }
    Ok(children)
}

/// `None` if the process has gone.
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_that_is_gone_is_known_by_its_error() {
        let error = of_process(u32::MAX).unwrap_err();
        assert!(matches!(error, Error::Io { source, .. } if is_gone(&source)));
        assert!(is_gone(&Errno::SRCH.into()));
        assert!(!is_gone(&Errno::ACCESS.into()));
    }

    #[test]
    fn guest_memory_is_told_apart() {
        let smaps = "\
00200000-00338000 r--p 00000000 00:13 593                   /dist/bulkhead
Pss:                 100 kB
Pss_Dirty:            10 kB
7f6c2ab92000-7f6c2c592000 rw-s 00000000 00:01 3             /memfd:guest-ram (deleted)
Pss:                2000 kB
7f6c2c592000-7f6c2c646000 rw-p 00c00000 00:13 5939248       /dist/vmlinux
Pss:                  30 kB
7ffc0000-7ffd0000 rw-p 00000000 00:00 0
Pss:                   4 kB
VmFlags: rd wr
";
        let memory = sum(smaps);
        assert_eq!((memory.pod, memory.guest), (2134, 2030));
    }
}
