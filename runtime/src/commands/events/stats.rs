//! A container's statistics in the form of runc's `events` (its package
//! `types`).

use std::collections::BTreeMap;

use bulkhead_protocol::{DeviceUsage, Level, Usage};
use serde::Serialize;

/// All of them.
#[derive(Debug, Serialize)]
pub(super) struct Stats {
    cpu: Cpu,
    memory: Memory,
    pids: Pids,
    blkio: Blkio,
    hugetlb: BTreeMap<String, Entry>,
}

/// In nanoseconds.
#[derive(Debug, Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
}

#[derive(Debug, Serialize)]
struct CpuUsage {
    total: u64,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
    throttled_time: u64,
}

/// In bytes.
#[derive(Debug, Serialize)]
struct Memory {
    cache: u64,
    usage: Entry,
    swap: Entry,
    kernel: Entry,
    raw: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Serialize)]
struct Entry {
    limit: u64,
    usage: u64,
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Serialize)]
struct Pids {
    current: u64,
    limit: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blkio {
    io_service_bytes_recursive: Vec<BlkioEntry>,
    io_serviced_recursive: Vec<BlkioEntry>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct BlkioEntry {
    major: u32,
    minor: u32,
    op: &'static str,
    value: u64,
}

impl From<&Usage> for Stats {
    fn from(usage: &Usage) -> Self {
        let cpu = |key| count(&usage.cpu, key);
        let nanoseconds = |key| cpu(key).saturating_mul(1000);
        let stat = |key| count(&usage.memory_stat, key);
        Self {
            cpu: Cpu {
                usage: CpuUsage {
                    total: nanoseconds("usage_usec"),
                    kernel: nanoseconds("system_usec"),
                    user: nanoseconds("user_usec"),
                },
                throttling: Throttling {
                    periods: cpu("nr_periods"),
                    throttled_periods: cpu("nr_throttled"),
                    throttled_time: nanoseconds("throttled_usec"),
                },
            },
            memory: Memory {
                cache: stat("file"),
                usage: Entry {
                    failcnt: count(&usage.memory_events, "max"),
                    ..Entry::from(usage.memory)
                },
                swap: usage.swap.into(),
                kernel: Entry {
                    usage: stat("kernel"),
                    ..Entry::default()
                },
                raw: usage.memory_stat.clone(),
            },
            pids: Pids {
                current: usage.tasks.current,
                // Zero says that there is none.
                limit: usage.tasks.max.unwrap_or_default(),
            },
            blkio: Blkio {
                io_service_bytes_recursive: entries(&usage.io, "rbytes", "wbytes"),
                io_serviced_recursive: entries(&usage.io, "rios", "wios"),
            },
            hugetlb: BTreeMap::new(),
        }
    }
}

impl From<Level> for Entry {
    fn from(level: Level) -> Self {
        Self {
            limit: level.max.unwrap_or(u64::MAX),
            usage: level.current,
            max: level.peak,
            failcnt: 0,
        }
    }
}

fn count(counts: &BTreeMap<String, u64>, key: &str) -> u64 {
    counts.get(key).copied().unwrap_or_default()
}

fn entries(devices: &[DeviceUsage], read: &str, write: &str) -> Vec<BlkioEntry> {
    let of_device = |device: &DeviceUsage| {
        [("Read", read), ("Write", write)].map(|(op, key)| BlkioEntry {
            major: device.major,
            minor: device.minor,
            op,
            value: count(&device.counts, key),
        })
    };
    devices.iter().flat_map(of_device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_runcs_names_and_units() {
        let counts = |pairs: &[(&str, u64)]| {
            let owned = pairs.iter().map(|(k, v)| ((*k).to_owned(), *v));
            owned.collect::<BTreeMap<_, _>>()
        };
        let usage = Usage {
            cpu: counts(&[("usage_usec", 5), ("nr_periods", 3)]),
            memory: Level {
                current: 1,
                peak: 2,
                max: Some(3),
            },
            tasks: Level {
                current: 4,
                ..Level::default()
            },
            io: vec![DeviceUsage {
                major: 8,
                minor: 0,
                counts: counts(&[("rbytes", 6)]),
            }],
            ..Usage::default()
        };
        let json = serde_json::to_value(Stats::from(&usage)).unwrap();
        assert_eq!(json["cpu"]["usage"]["total"], 5000);
        assert_eq!(json["cpu"]["throttling"]["periods"], 3);
        assert_eq!(json["memory"]["usage"]["limit"], 3);
        assert_eq!(json["memory"]["swap"]["limit"], u64::MAX);
        assert_eq!(json["pids"]["current"], 4);
        let read = &json["blkio"]["ioServiceBytesRecursive"][0];
        assert_eq!(
            (read["op"].as_str(), read["value"].as_u64()),
            (Some("Read"), Some(6))
        );
    }
}
