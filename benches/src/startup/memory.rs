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

fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let list = fs::read_to_string(task?.path().join("children"))?;
        children.extend(
            list.split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    Ok(children)
}
