//! What a cgroup counts.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use bulkhead_protocol::{DeviceUsage, Level, Usage};

use super::read_file;

/// Reads the counters of a cgroup. A file that is not there belongs to a
/// controller that it lacks.
pub(super) fn read(cgroup: BorrowedFd<'_>) -> Usage {
    let read = |file: &str| read_file(cgroup, file).unwrap_or_default();
    let level = |name: &str| Level {
        current: number(&read(&format!("{name}.current"))).unwrap_or_default(),
        peak: number(&read(&format!("{name}.peak"))).unwrap_or_default(),
        max: number(&read(&format!("{name}.max"))),
    };
    Usage {
        cpu: flat_keyed(&read("cpu.stat")),
        memory: level("memory"),
        swap: level("memory.swap"),
        memory_stat: flat_keyed(&read("memory.stat")),
        memory_events: flat_keyed(&read("memory.events")),
        tasks: level("pids"),
        io: read("io.stat").lines().filter_map(device).collect(),
    }
}

/// `max`, or nothing, is no number.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Lines of a key and a number.
fn flat_keyed(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), number(value)?))
    };
    text.lines().filter_map(pair).collect()
}

/// `MAJOR:MINOR key=number …`.
fn device(line: &str) -> Option<DeviceUsage> {
    let (device, counts) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let pair = |word: &str| {
        let (key, value) = word.split_once('=')?;
        Some((key.to_owned(), number(value)?))
    };
    Some(DeviceUsage {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        counts: counts.split(' ').filter_map(pair).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_the_kernel_are_read() {
        assert_eq!(number("123\n"), Some(123));
        assert_eq!(number("max\n"), None);
        let stat = flat_keyed("usage_usec 5\nbroken\nuser_usec 3\n");
        assert_eq!(stat["usage_usec"], 5);
        assert_eq!(stat.len(), 2);
        let usage = device("254:16 rbytes=10 wbytes=0 rios=2").unwrap();
        assert_eq!((usage.major, usage.minor), (254, 16));
        assert_eq!(usage.counts["rios"], 2);
        assert_eq!(device("nonsense"), None);
    }
}
