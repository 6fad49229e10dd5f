//! Limits as properties of a unit: `systemd.resource-control(5)`,
//! `org.freedesktop.systemd1(5)`.

use bulkhead_protocol::weight;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::SystemdError;
use super::wire::{Property, Value};

/// Highest number of a processor or memory node that systemd takes.
const LAST_BIT: usize = 8191;

/// systemd keeps processor time by the second, in whole percents.
const PERCENT_OF_SECOND: u64 = 10_000;

/// The kernel's own period for quotas, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// The limits that are named, and no others.
pub(super) fn properties(limits: &LinuxResources) -> Result<Vec<Property>, SystemdError> {
    let mut properties = Vec::new();
    if let Some(cpu) = limits.cpu() {
        properties.extend(processor_time(cpu));
        properties.extend(processors(cpu)?);
    }
    if let Some(memory) = limits.memory() {
        properties.extend(memory_limits(memory));
    }
    if let Some(pids) = limits.pids() {
        properties.push(("TasksMax", Value::U64(bound(pids.limit()))));
    }
    if let Some(block_io) = limits.block_io() {
        properties.extend(block_io_limits(block_io));
    }
    Ok(properties)
}

fn processor_time(cpu: &LinuxCpu) -> impl Iterator<Item = Property> {
    let weight = match cpu.idle() {
        // "idle", below all weights.
        Some(1) => Some(0),
        _ => cpu.shares().filter(|n| *n > 0).map(weight::of_cpu_shares),
    };
    let period = cpu.period().filter(|n| *n > 0);
    let quota = cpu.quota().filter(|n| *n != 0);
    let per_second = quota.map(|quota| time_per_second(quota, period.unwrap_or(DEFAULT_PERIOD)));
    [
        ("CPUWeight", weight),
        ("CPUQuotaPeriodUSec", period),
        ("CPUQuotaPerSecUSec", per_second),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, Value::U64(value?))))
}

fn time_per_second(quota: i64, period: u64) -> u64 {
    let Ok(quota) = u64::try_from(quota) else {
        return u64::MAX;
    };
    let per_second = u128::from(quota) * 1_000_000 / u128::from(period);
    let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
    per_second
        .checked_next_multiple_of(PERCENT_OF_SECOND)
        .unwrap_or(u64::MAX)
}

fn processors(cpu: &LinuxCpu) -> Result<Vec<Property>, SystemdError> {
    let lists = [
        ("AllowedCPUs", cpu.cpus()),
        ("AllowedMemoryNodes", cpu.mems()),
    ];
    let mut properties = Vec::new();
    for (name, list) in lists {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            let bits = bits(list).ok_or_else(|| SystemdError::List(list.to_owned()))?;
            properties.push((name, Value::Bytes(bits)));
        }
    }
    Ok(properties)
}

/// A list like `0-2,5` (`cpuset(7)`) as bits, the lowest first.
fn bits(list: &str) -> Option<Vec<u8>> {
    let mut bits = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > LAST_BIT {
            return None;
        }
        bits.resize(bits.len().max(last / 8 + 1), 0);
        for bit in first..=last {
            bits[bit / 8] |= 1 << (bit % 8);
        }
    }
    Some(bits)
}

fn memory_limits(memory: &LinuxMemory) -> impl Iterator<Item = Property> {
    let limit = memory.limit().filter(|n| *n != 0);
    // Swap is memory and swap together.
    let swap = match (memory.swap(), limit) {
        (Some(both), Some(memory)) if both > 0 && memory > 0 => Some((both - memory).max(0)),
        (Some(both), _) if both < 0 => Some(both),
        _ => None,
    };
    [
        ("MemoryMax", limit),
        ("MemorySwapMax", swap),
        ("MemoryLow", memory.reservation().filter(|n| *n != 0)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, Value::U64(value.map(at_most)?))))
}

/// A number of tasks; without a positive one there is no limit.
fn bound(limit: i64) -> u64 {
    u64::try_from(limit)
        .ok()
        .filter(|n| *n > 0)
        .unwrap_or(u64::MAX)
}

/// A limit, of which a negative one is none.
fn at_most(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX)
}

fn block_io_limits(block_io: &LinuxBlockIo) -> Vec<Property> {
    let mut properties = Vec::new();
    if let Some(weight) = block_io.weight().filter(|n| *n > 0) {
        // From 10..=1000 to 1..=10000.
        let weight = 1 + u64::from(weight).saturating_sub(10) * 9999 / 990;
        properties.push(("IOWeight", Value::U64(weight)));
    }
    let throttled = [
        ("IOReadBandwidthMax", block_io.throttle_read_bps_device()),
        ("IOWriteBandwidthMax", block_io.throttle_write_bps_device()),
        ("IOReadIOPSMax", block_io.throttle_read_iops_device()),
        ("IOWriteIOPSMax", block_io.throttle_write_iops_device()),
    ];
    for (name, devices) in throttled {
        let devices = devices.as_deref().unwrap_or_default();
        if !devices.is_empty() {
            let limits = devices.iter().map(device_limit).collect();
            properties.push((name, Value::DeviceLimits(limits)));
        }
    }
    properties
}

/// udev has a link to each device under its numbers.
fn device_limit(device: &LinuxThrottleDevice) -> (String, u64) {
    let path = format!("/dev/block/{}:{}", device.major(), device.minor());
    (path, device.rate())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn of(limits: Json) -> Vec<Property> {
        properties(&serde_json::from_value(limits).unwrap()).unwrap()
    }

    #[test]
    fn what_is_not_named_stays() {
        assert_eq!(of(json!({})), []);
        assert_eq!(of(json!({ "cpu": {}, "memory": {} })), []);
        let shares = of(json!({ "cpu": { "shares": 1024 } }));
        assert_eq!(shares, [("CPUWeight", Value::U64(100))]);
    }

    #[test]
    fn quota_is_by_the_second() {
        let expected = [
            ("CPUQuotaPeriodUSec", Value::U64(200_000)),
            ("CPUQuotaPerSecUSec", Value::U64(250_000)),
        ];
        assert_eq!(
            of(json!({ "cpu": { "quota": 50_000, "period": 200_000 } })),
            expected
        );
        assert_eq!(time_per_second(33_333, 100_000), 340_000);
        assert_eq!(time_per_second(-1, 100_000), u64::MAX);
        assert_eq!(time_per_second(i64::MAX, 1), u64::MAX);
    }

    #[test]
    fn swap_comes_on_top_of_memory() {
        let expected = [
            ("MemoryMax", Value::U64(100)),
            ("MemorySwapMax", Value::U64(50)),
        ];
        assert_eq!(
            of(json!({ "memory": { "limit": 100, "swap": 150 } })),
            expected
        );
        let none = of(json!({ "memory": { "limit": -1 }, "pids": { "limit": 0 } }));
        let unlimited = ["MemoryMax", "TasksMax"].map(|name| (name, Value::U64(u64::MAX)));
        assert_eq!(none, unlimited);
    }

    #[test]
    fn lists_of_processors_are_bits() {
        assert_eq!(bits("0"), Some(vec![1]));
        assert_eq!(bits("0-2,9"), Some(vec![0b111, 0b10]));
        for list in ["", "a", "2-1", "1-", "8192", "99999999999999999999"] {
            assert_eq!(bits(list), None, "{list:?}");
        }
    }

    #[test]
    fn devices_are_known_by_their_numbers() {
        let device = json!([{ "major": 8, "minor": 0, "rate": 7 }]);
        let expected = vec![("/dev/block/8:0".to_owned(), 7)];
        assert_eq!(
            of(json!({ "blockIO": { "weight": 1000, "throttleReadBpsDevice": device } })),
            [
                ("IOWeight", Value::U64(10_000)),
                ("IOReadBandwidthMax", Value::DeviceLimits(expected)),
            ]
        );
    }
}
