//! How the kernel schedules this process, its input and output included.

use std::io;

use super::process::check;
use crate::plan::{IoPriority, Scheduling};

/// `ioprio_set(2)`: a single thread (`include/uapi/linux/ioprio.h`).
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

/// Sets the policy that this process is scheduled by; `sched_setattr(2)`.
pub(crate) fn set_scheduling(scheduling: &Scheduling) -> io::Result<()> {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: scheduling.policy,
        sched_flags: scheduling.flags,
        sched_nice: scheduling.nice,
        sched_priority: scheduling.priority,
        sched_runtime: scheduling.runtime_ns,
        sched_deadline: scheduling.deadline_ns,
        sched_period: scheduling.period_ns,
    };
    // SAFETY: the kernel reads as much as `size` says, which outlives the call.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// Sets how urgent this process's input and output are; `ioprio_set(2)`.
pub(crate) fn set_io_priority(priority: IoPriority) -> io::Result<()> {
    let priority = libc::c_int::from(priority.0);
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) })
}
