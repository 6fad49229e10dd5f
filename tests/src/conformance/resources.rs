//! Control groups (config-linux.md, "Control groups"), of the second version: where
//! the container is, and what it reads there of its own limits.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Check;
use super::bench::Bench;
use super::container::Container;

pub(super) const CASES: &[(&str, Check)] = &[
    ("linux_cgroups_path", path),
    ("linux_cgroups_relative_path", relative_path),
    ("linux_cgroups_cpus", |bench| cpus(absolute(bench))),
    ("linux_cgroups_relative_cpus", |bench| cpus(relative(bench))),
    ("linux_cgroups_memory", |bench| memory(absolute(bench))),
    ("linux_cgroups_relative_memory", |bench| {
        memory(relative(bench))
    }),
    ("linux_cgroups_pids", |bench| pids(absolute(bench))),
    ("linux_cgroups_relative_pids", |bench| pids(relative(bench))),
    ("linux_cgroups_hugetlb", |bench| hugetlb(absolute(bench))),
    ("linux_cgroups_relative_hugetlb", |bench| {
        hugetlb(relative(bench))
    }),
    ("linux_cgroups_blkio", |bench| blkio(absolute(bench))),
    ("linux_cgroups_relative_blkio", |bench| {
        blkio(relative(bench))
    }),
    ("linux_cgroups_unified", |bench| unified(absolute(bench))),
    ("linux_cgroups_unified_invalid", unified_invalid),
    ("linux_cgroups_memory_is_enforced", memory_is_enforced),
    ("linux_cgroups_pids_are_enforced", pids_are_enforced),
];

fn absolute<'b>(bench: &'b Bench<'b>) -> Container<'b> {
    let path = json!(bench.cgroup());
    bench.container().set("/linux/cgroupsPath", path)
}

fn relative<'b>(bench: &'b Bench<'b>) -> Container<'b> {
    let path = json!(bench.cgroup().trim_start_matches('/'));
    bench.container().set("/linux/cgroupsPath", path)
}

/// An absolute path is one below the hierarchy's mount point.
fn path(bench: &Bench) -> Result<()> {
    let container = absolute(bench).idle();
    container.create()?;
    let processes = fs::read_to_string(bench.cgroup_directory().join("cgroup.procs"))?;
    let pid = container.state()?["pid"].to_string();
    ensure!(
        processes.lines().any(|line| line == pid),
        "{pid} is not among {processes:?}"
    );
    Ok(())
}

/// A relative one is anywhere, but the same place each time.
fn relative_path(bench: &Bench) -> Result<()> {
    let container = relative(bench).idle();
    let mut places = Vec::new();
    for _ in 0..2 {
        container.create()?;
        places.push(cgroup_of(&container)?);
        container.stop()?;
        container.delete()?;
    }
    ensure!(places[0] == places[1], "{places:?} differ");
    let path = bench.cgroup();
    let is_below = places[0].ends_with(path.trim_start_matches('/'));
    ensure!(is_below, "{places:?} do not end with {path:?}");
    Ok(())
}

/// Fails unless the container reads these values in its control group.
fn has(container: Container, resources: Value, files: &[(&str, &str)]) -> Result<()> {
    let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
    let values: Vec<_> = files.iter().map(|(_, value)| *value).collect();
    let script = format!("cd /sys/fs/cgroup; cat {}", names.join(" "));
    let container = container.script(&script).set("/linux/resources", resources);
    container.prints(&values.join("\n"))
}

fn cpus(container: Container) -> Result<()> {
    // How shares become a weight is not specified, but which way they go is.
    let script = "cd /sys/fs/cgroup; cat cpu.max cpuset.cpus cpuset.mems cpu.max.burst
        test $(cat cpu.weight) -lt 100 && echo light";
    let container = container.script(script).set(
        "/linux/resources/cpu",
        json!({
            "shares": 256, "quota": 50_000, "period": 200_000, "cpus": "0", "mems": "0",
        }),
    );
    container.prints("50000 200000\n0\n0\n0\nlight")
}

fn memory(container: Container) -> Result<()> {
    let mib = |n: u64| n << 20;
    has(
        container,
        json!({ "memory": { "limit": mib(96), "reservation": mib(32), "swap": mib(128) } }),
        &[
            ("memory.max", &mib(96).to_string()),
            ("memory.low", &mib(32).to_string()),
            ("memory.swap.max", &mib(32).to_string()),
        ],
    )
}

fn pids(container: Container) -> Result<()> {
    let resources = json!({ "pids": { "limit": 321 } });
    has(container, resources, &[("pids.max", "321")])
}

fn hugetlb(container: Container) -> Result<()> {
    let limit = 4 << 20;
    has(
        container,
        json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": limit }] }),
        &[("hugetlb.2MB.max", &limit.to_string())],
    )
}

/// The host's device is limited on the host.
fn blkio(container: Container) -> Result<()> {
    // The first loop device.
    let limit = |rate| json!([{ "major": 7, "minor": 0, "rate": rate }]);
    let container = container.idle().set(
        "/linux/resources/blockIO",
        json!({
            "throttleReadBpsDevice": limit(1 << 20), "throttleWriteIOPSDevice": limit(100),
        }),
    );
    container.create()?;
    let limits = fs::read_to_string(cgroup_of(&container)?.join("io.max"))?;
    let expected = "7:0 rbps=1048576 wbps=max riops=max wiops=100";
    ensure!(limits.trim() == expected, "the host has {limits:?}");
    Ok(())
}

/// Where a container is on the host.
fn cgroup_of(container: &Container) -> Result<PathBuf> {
    let pid = container.state()?["pid"].to_string();
    let line = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = line.trim().trim_start_matches("0::/");
    Ok(Path::new("/sys/fs/cgroup").join(path))
}

fn unified(container: Container) -> Result<()> {
    let resources = json!({ "unified": {
        "memory.high": "67108864", "pids.max": "77", "cgroup.max.depth": "3",
    }});
    has(
        container,
        resources,
        &[
            ("memory.high", "67108864"),
            ("pids.max", "77"),
            ("cgroup.max.depth", "3"),
        ],
    )
}

fn unified_invalid(bench: &Bench) -> Result<()> {
    for (file, value) in [
        ("pids.nonsense", "1"),
        ("pids.max", "many"),
        ("../pids.max", "1"),
    ] {
        let container = absolute(bench).set("/linux/resources/unified", json!({ file: value }));
        container.is_refused(&format!("{value:?} for {file}"))?;
    }
    Ok(())
}

fn memory_is_enforced(bench: &Bench) -> Result<()> {
    let script = "cp /bin/busybox /dev/shm/1 && echo fits
        for n in $(seq 64); do cat /bin/busybox; done >/dev/shm/2; echo survived";
    let container = absolute(bench).script(script).set(
        "/linux/resources/memory",
        json!({ "limit": 16 << 20, "swap": 16 << 20 }),
    );
    let ended = container.run()?;
    let printed = ended.stdout.text()?;
    ensure!(
        printed.starts_with("fits") && (ended.code() == Some(137) || !ended.said()?.is_empty()),
        "it printed {printed:?} and ended with {:?}",
        ended.code()
    );
    Ok(())
}

fn pids_are_enforced(bench: &Bench) -> Result<()> {
    let script = "for n in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo survived";
    let container = absolute(bench).script(script);
    let container = container.set("/linux/resources/pids", json!({ "limit": 4 }));
    let ended = container.run()?;
    let message = ended.said()?;
    ensure!(message.contains("fork"), "nothing failed: {message:?}");
    Ok(())
}
