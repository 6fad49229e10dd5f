//! What a pod costs its host.

use std::fs;

use anyhow::Context;

/// Proportional set size, in KiB, of the process `root` and all its
/// descendants: the monitor, the VMM with the guest's memory, the file server.
pub(crate) fn pod_pss_kib(root: u32) -> anyhow::Result<u64> {
    let mut total = pss_kib(root)?;
    for child in children(root)? {
        total += pod_pss_kib(child)?;
    }
    Ok(total)
}

fn pss_kib(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("Pss:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .with_context(|| format!("no Pss in {path}"))
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
