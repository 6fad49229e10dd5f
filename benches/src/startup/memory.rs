//! What a pod costs its host.

use std::fs;

use anyhow::Context;

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
pub(crate) fn of_pod(root: u32) -> anyhow::Result<Memory> {
    let mut total = of_process(root)?;
    for child in children(root)? {
        let memory = of_pod(child)?;
        total.pod += memory.pod;
        total.guest += memory.guest;
    }
    Ok(total)
}

fn of_process(pid: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{pid}/smaps");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(sum(&text))
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
fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let name = entry.context("cannot list /proc")?.file_name();
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
