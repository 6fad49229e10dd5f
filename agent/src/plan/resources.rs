//! `linux.resources` as writes to the files of a cgroup of the unified
//! hierarchy (the kernel's `Documentation/admin-guide/cgroup-v2.rst`).

use std::fmt::Display;

use bulkhead_protocol::weight;

use super::{PlanError, invalid};
use crate::config::{BlockIo, Cpu, Memory, Pids, Resources};

/// One write to a file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupWrite {
    /// The file's name.
    pub(crate) file: String,
    /// What is written.
    pub(crate) value: String,
    /// Whether failure is no error: the limit holds anyway, or concerns
    /// hardware that the guest need not have.
    pub(crate) best_effort: bool,
}

impl CgroupWrite {
    fn new(file: impl Into<String>, value: impl Display) -> Self {
        Self {
            file: file.into(),
            value: value.to_string(),
            best_effort: false,
        }
    }

    fn best_effort(file: impl Into<String>, value: impl Display) -> Self {
        Self {
            best_effort: true,
            ..Self::new(file, value)
        }
    }
}

/// Decides what limits mean, for a container that is there or will be.
pub(crate) fn plan(resources: &Resources) -> Result<Vec<CgroupWrite>, PlanError> {
    let mut writes = Vec::new();
    memory(&resources.memory, &mut writes)?;
    cpu(&resources.cpu, &mut writes);
    pids(&resources.pids, &mut writes);
    block_io(&resources.block_io, &mut writes);
    for limit in &resources.hugepage_limits {
        check_name("linux.resources.hugepageLimits", &limit.page_size)?;
        // A size that the guest's processors lack has no file, and no pages.
        writes.push(CgroupWrite::best_effort(
            format!("hugetlb.{}.max", limit.page_size),
            limit.limit,
        ));
    }
    for (file, value) in &resources.unified {
        check_name("linux.resources.unified", file)?;
        writes.push(CgroupWrite::new(file, value));
    }
    Ok(writes)
}

/// Files of the cgroup itself, and none that moves processes or delegates.
fn check_name(field: &'static str, name: &str) -> Result<(), PlanError> {
    let is_core = name.starts_with("cgroup.") && !name.starts_with("cgroup.max.");
    if name.is_empty() || name.contains('/') || is_core {
        return Err(invalid(field, &name, "is not a limit of a cgroup"));
    }
    Ok(())
}

fn memory(memory: &Memory, writes: &mut Vec<CgroupWrite>) -> Result<(), PlanError> {
    if let Some(limit) = set(memory.limit) {
        writes.push(CgroupWrite::new("memory.max", or_max(limit)));
    }
    if let Some(low) = set(memory.reservation) {
        writes.push(CgroupWrite::new("memory.low", or_max(low)));
    }
    if let Some(swap) = set(memory.swap) {
        let value = swap_alone(swap, set(memory.limit))?;
        // A guest without swap has no such file, and nothing to limit.
        writes.push(CgroupWrite::best_effort("memory.swap.max", value));
    }
    Ok(())
}

/// The configuration counts memory and swap together, the kernel swap alone.
fn swap_alone(both: i64, memory: Option<i64>) -> Result<String, PlanError> {
    match memory {
        _ if both < 0 => Ok("max".into()),
        Some(memory) if memory >= 0 && both >= memory => Ok((both - memory).to_string()),
        Some(memory) if memory < 0 => {
            let reason = "limits swap where memory is unlimited";
            Err(invalid("linux.resources.memory.swap", &both, reason))
        }
        Some(_) => {
            let reason = "is less than the memory limit, which it includes";
            Err(invalid("linux.resources.memory.swap", &both, reason))
        }
        None => {
            let reason = "includes memory, which has no limit";
            Err(invalid("linux.resources.memory.swap", &both, reason))
        }
    }
}

fn cpu(cpu: &Cpu, writes: &mut Vec<CgroupWrite>) {
    if let Some(idle) = cpu.idle {
        writes.push(CgroupWrite::new("cpu.idle", idle));
    }
    // An idle cgroup has no weight; writing one would make it ordinary again.
    let shares = cpu
        .shares
        .filter(|shares| *shares != 0 && cpu.idle != Some(1));
    if let Some(shares) = shares {
        writes.push(CgroupWrite::new(
            "cpu.weight",
            weight::of_cpu_shares(shares),
        ));
    }
    let quota = cpu.quota.filter(|quota| *quota != 0);
    if quota.is_some() || cpu.period.is_some() {
        let quota = or_max(quota.unwrap_or(-1));
        let period = cpu
            .period
            .filter(|period| *period != 0)
            .unwrap_or(DEFAULT_PERIOD_US);
        writes.push(CgroupWrite::new(
            "cpu.max",
            format_args!("{quota} {period}"),
        ));
    }
    if let Some(burst) = cpu.burst {
        writes.push(CgroupWrite::new("cpu.max.burst", burst));
    }
    // The numbers are the host's. Where the guest has processors of the same
    // numbers, the container gets as many as it was to have there.
    for (file, list) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if !list.is_empty() {
            writes.push(CgroupWrite::best_effort(file, list));
        }
    }
}

const DEFAULT_PERIOD_US: u64 = 100_000;

fn pids(pids: &Pids, writes: &mut Vec<CgroupWrite>) {
    if let Some(limit) = pids.limit {
        let limit = if limit <= 0 { -1 } else { limit };
        writes.push(CgroupWrite::new("pids.max", or_max(limit)));
    }
}

/// Best effort: the guest has the devices it has, and their numbers are its own.
fn block_io(io: &BlockIo, writes: &mut Vec<CgroupWrite>) {
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        // 10..1000 to 1..10000, as the specification's authors map it.
        let weight = 1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990;
        writes.push(CgroupWrite::best_effort(
            "io.weight",
            format_args!("default {weight}"),
        ));
    }
    for (key, throttles) in [
        ("rbps", &io.throttle_read_bps_device),
        ("wbps", &io.throttle_write_bps_device),
        ("riops", &io.throttle_read_iops_device),
        ("wiops", &io.throttle_write_iops_device),
    ] {
        for throttle in throttles {
            let (major, minor) = (throttle.major, throttle.minor);
            let value = format_args!("{major}:{minor} {key}={}", throttle.rate).to_string();
            writes.push(CgroupWrite::best_effort("io.max", value));
        }
    }
}

/// Zero is how a configuration written by Go says 'not set'.
fn set(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value != 0)
}

fn or_max(value: i64) -> String {
    if value < 0 {
        "max".into()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(json: &str) -> Vec<(String, String)> {
        let plan = plan(&serde_json::from_str(json).unwrap()).unwrap();
        plan.into_iter()
            .map(|write| (write.file, write.value))
            .collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(file, value)| (file.to_string(), value.to_string()))
            .collect()
    }

    #[test]
    fn nothing_is_written_for_nothing() {
        assert!(writes("{}").is_empty());
        assert!(writes(r#"{"memory": {"limit": 0}, "cpu": {"shares": 0, "quota": 0}}"#).is_empty());
    }

    #[test]
    fn memory_and_swap_are_separated() {
        assert_eq!(
            writes(r#"{"memory": {"limit": 100, "reservation": 50, "swap": 150}}"#),
            pairs(&[
                ("memory.max", "100"),
                ("memory.low", "50"),
                ("memory.swap.max", "50")
            ])
        );
        assert_eq!(
            writes(r#"{"memory": {"limit": -1, "swap": -1}}"#),
            pairs(&[("memory.max", "max"), ("memory.swap.max", "max")])
        );
        for json in [
            r#"{"limit": 100, "swap": 99}"#,
            r#"{"swap": 5}"#,
            r#"{"limit": -1, "swap": 5}"#,
        ] {
            let resources = Resources {
                memory: serde_json::from_str(json).unwrap(),
                ..Resources::default()
            };
            assert!(plan(&resources).is_err(), "{json}");
        }
    }

    #[test]
    fn processor_time() {
        assert_eq!(
            writes(
                r#"{"cpu": {"shares": 1024, "quota": 50000, "period": 200000, "burst": 7,
                    "cpus": "0-1", "mems": "0"}}"#
            ),
            pairs(&[
                ("cpu.weight", "100"),
                ("cpu.max", "50000 200000"),
                ("cpu.max.burst", "7"),
                ("cpuset.cpus", "0-1"),
                ("cpuset.mems", "0"),
            ])
        );
        assert_eq!(
            writes(r#"{"cpu": {"quota": -1}}"#),
            pairs(&[("cpu.max", "max 100000")])
        );
        assert_eq!(
            writes(r#"{"cpu": {"idle": 1, "shares": 2}}"#),
            pairs(&[("cpu.idle", "1")])
        );
    }

    #[test]
    fn limits_of_the_host_s_hardware_are_best_effort() {
        let json = r#"{"cpu": {"cpus": "3", "mems": "1", "quota": 5},
            "hugepageLimits": [{"pageSize": "1GB", "limit": 0}]}"#;
        let writes = plan(&serde_json::from_str(json).unwrap()).unwrap();
        let best_effort = |file| {
            let write = writes.iter().find(|write| write.file == file);
            write.unwrap().best_effort
        };
        for file in ["cpuset.cpus", "cpuset.mems", "hugetlb.1GB.max"] {
            assert!(best_effort(file), "{file}");
        }
        assert!(!best_effort("cpu.max"));
    }

    #[test]
    fn tasks_devices_and_pages() {
        assert_eq!(
            writes(
                r#"{"pids": {"limit": 64}, "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}],
                    "blockIO": {"weight": 10,
                        "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 600}]},
                    "unified": {"memory.high": "90"}}"#
            ),
            pairs(&[
                ("pids.max", "64"),
                ("io.weight", "default 1"),
                ("io.max", "8:0 riops=600"),
                ("hugetlb.2MB.max", "4096"),
                ("memory.high", "90"),
            ])
        );
        assert_eq!(
            writes(r#"{"pids": {"limit": -1}}"#),
            pairs(&[("pids.max", "max")])
        );
    }

    #[test]
    fn unified_names_stay_in_the_cgroup() {
        for name in ["../x", "", "cgroup.procs", "a/b"] {
            let resources = Resources {
                unified: [(name.to_owned(), "1".to_owned())].into(),
                ..Resources::default()
            };
            assert!(plan(&resources).is_err(), "{name}");
        }
    }
}
