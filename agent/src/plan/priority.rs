//! How a process is scheduled, where, and how urgent its input and output are.

use rustix::thread::CpuSet;

use super::{PlanError, invalid};
use crate::config;

/// What `sched_setattr(2)` is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheduling {
    /// One of the kernel's policies, `SCHED_*`.
    pub(crate) policy: u32,
    /// `SCHED_FLAG_*`.
    pub(crate) flags: u64,
    /// From -20, the most favourable, to 19.
    pub(crate) nice: i32,
    /// Priority under the real-time policies.
    pub(crate) priority: u32,
    /// Nanoseconds that the process needs in each period, for deadlines.
    pub(crate) runtime_ns: u64,
    /// Nanoseconds within which it needs them.
    pub(crate) deadline_ns: u64,
    /// Nanoseconds of a period.
    pub(crate) period_ns: u64,
}

/// A class and a level in it, as `ioprio_set(2)` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IoPriority(pub(crate) u16);

/// Policies by name (`include/uapi/linux/sched.h`). The kernel has reserved a
/// number for the specification's `SCHED_ISO`, and no such policy.
const POLICIES: [(&str, u32); 6] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// Flags by name, likewise. Those that bound utilisation need values for which
/// the specification has no fields.
const FLAGS: [(&str, u64); 5] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
];

/// Classes by name (`include/uapi/linux/ioprio.h`).
const IO_CLASSES: [(&str, u16); 3] = [
    ("IOPRIO_CLASS_RT", 1),
    ("IOPRIO_CLASS_BE", 2),
    ("IOPRIO_CLASS_IDLE", 3),
];

/// The class lies above the level.
const IO_CLASS_SHIFT: u32 = 13;

impl Scheduling {
    /// Decides what `process.scheduler` means.
    pub(super) fn new(config: &config::Scheduler) -> Result<Self, PlanError> {
        // The kernel would take the nearest one that there is.
        if !(-20..=19).contains(&config.nice) {
            let reason = "is not between -20 and 19";
            return Err(invalid("process.scheduler.nice", &config.nice, reason));
        }
        let priority = u32::try_from(config.priority).map_err(|_| {
            let reason = "is negative";
            invalid("process.scheduler.priority", &config.priority, reason)
        })?;
        let flags = config.flags.iter().try_fold(0, |flags, name| {
            Ok(flags | named("process.scheduler.flags", &FLAGS, name)?)
        })?;
        Ok(Self {
            policy: named("process.scheduler.policy", &POLICIES, &config.policy)?,
            flags,
            nice: config.nice,
            priority,
            runtime_ns: config.runtime,
            deadline_ns: config.deadline,
            period_ns: config.period,
        })
    }
}

impl IoPriority {
    /// Decides what `process.ioPriority` means.
    pub(super) fn new(config: &config::IoPriority) -> Result<Self, PlanError> {
        let class = named("process.ioPriority.class", &IO_CLASSES, &config.class)?;
        match u16::try_from(config.priority) {
            Ok(level @ 0..=7) => Ok(Self(class << IO_CLASS_SHIFT | level)),
            _ => Err(invalid(
                "process.ioPriority.priority",
                &config.priority,
                "is not between 0 and 7",
            )),
        }
    }
}

/// Numbers of processors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CpuList(pub(crate) Vec<usize>);

impl CpuList {
    /// Reads a list as `0-2,5` (the kernel's `Documentation/admin-guide/cputopology.rst`).
    pub(super) fn parse(list: &str) -> Result<Self, PlanError> {
        let invalid = || {
            let reason = "is not a list of processors such as 0-2,5";
            invalid("process.execCPUAffinity.final", &list, reason)
        };
        let number = |text: &str| {
            let number = text.parse::<usize>().ok();
            let number = number.filter(|cpu| *cpu < CpuSet::MAX_CPU);
            number.ok_or_else(invalid)
        };
        let mut cpus = Vec::new();
        for part in list.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(invalid());
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

fn named<T: Copy>(field: &'static str, table: &[(&str, T)], name: &str) -> Result<T, PlanError> {
    let found = table.iter().find(|(known, _)| *known == name);
    found.map_or_else(
        || Err(invalid(field, &name, "is not one that the guest has")),
        |(_, value)| Ok(*value),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduling(json: &str) -> Result<Scheduling, PlanError> {
        Scheduling::new(&serde_json::from_str(json).unwrap())
    }

    fn io_priority(json: &str) -> Result<IoPriority, PlanError> {
        IoPriority::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn names_become_the_kernel_s_numbers() {
        let plan = scheduling(
            r#"{"policy": "SCHED_DEADLINE", "flags":
                ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"],
                "runtime": 1, "deadline": 2, "period": 3}"#,
        );
        let expected = Scheduling {
            policy: 6,
            flags: 5,
            nice: 0,
            priority: 0,
            runtime_ns: 1,
            deadline_ns: 2,
            period_ns: 3,
        };
        assert_eq!(plan.unwrap(), expected);
        let batch = scheduling(r#"{"policy": "SCHED_BATCH", "nice": -20, "flags": null}"#);
        assert_eq!(batch.unwrap().nice, -20);
    }

    #[test]
    fn class_and_level_share_a_number() {
        let plan = io_priority(r#"{"class": "IOPRIO_CLASS_BE", "priority": 7}"#);
        assert_eq!(plan.unwrap(), IoPriority(0x4007));
    }

    #[test]
    fn lists_name_processors() {
        assert_eq!(CpuList::parse("0-2,5").unwrap(), CpuList(vec![0, 1, 2, 5]));
        for list in ["", "a", "2-1", "1,", "0-1024", "-1"] {
            assert!(CpuList::parse(list).is_err(), "{list}");
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (json, word) in [
            (r#"{"policy": "SCHED_ISO"}"#, "SCHED_ISO"),
            (r#"{"policy": ""}"#, "policy"),
            (r#"{"policy": "SCHED_OTHER", "nice": 20}"#, "nice"),
            (r#"{"policy": "SCHED_RR", "priority": -1}"#, "priority"),
            (
                r#"{"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_UTIL_CLAMP_MIN"]}"#,
                "UTIL_CLAMP_MIN",
            ),
        ] {
            let error = scheduling(json).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        for json in [
            r#"{"class": "IOPRIO_CLASS_BE", "priority": 8}"#,
            r#"{"class": "IOPRIO_CLASS_BE", "priority": -1}"#,
            r#"{"class": "IOPRIO_CLASS_NONE", "priority": 0}"#,
        ] {
            assert!(io_priority(json).is_err(), "{json}");
        }
    }
}
