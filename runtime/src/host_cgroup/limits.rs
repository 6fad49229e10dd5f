//! What of a container's limits holds for its whole sandbox on the host.

use oci_spec::runtime::{LinuxMemory, LinuxPids, LinuxResources};

use crate::resources::Resources;

/// What the processes of a sandbox need beside the guest's memory: their own,
/// the kernel's for them, and some page cache to serve files from.
const OVERHEAD_MIB: u64 = 64;

/// Processes and threads of a sandbox beside its vCPUs.
const TASKS: i64 = 64;

/// The host's share of the limits: processor time, processors and block devices
/// as they are; memory and tasks as the sandbox needs them for a container that
/// stays within its own limits. Devices and huge pages are the guest's.
pub(crate) fn limits(asked: Option<&LinuxResources>, size: Resources) -> LinuxResources {
    let Some(asked) = asked else {
        return LinuxResources::default();
    };
    let mut limits = LinuxResources::default();
    limits
        .set_cpu(asked.cpu().clone())
        .set_block_io(asked.block_io().clone())
        .set_memory(
            asked
                .memory()
                .as_ref()
                .map(|memory| sandbox_memory(memory, size)),
        )
        .set_pids(asked.pids().as_ref().map(|pids| sandbox_tasks(*pids, size)));
    limits
}

fn sandbox_memory(asked: &LinuxMemory, size: Resources) -> LinuxMemory {
    let is_limit = |bytes: &i64| *bytes > 0;
    let limit = asked.limit().filter(is_limit);
    let sandbox = ((size.memory_mib + OVERHEAD_MIB) << 20).cast_signed();
    // Swap is memory and swap together.
    let swap = asked.swap().filter(is_limit).zip(limit);
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(limit.map(|_| sandbox))
        .set_swap(swap.map(|(both, memory)| sandbox + (both - memory).max(0)))
        .set_reservation(asked.reservation());
    memory
}

fn sandbox_tasks(asked: LinuxPids, size: Resources) -> LinuxPids {
    let mut pids = asked;
    if asked.limit() > 0 {
        pids.set_limit(TASKS + i64::from(size.vcpus));
    }
    pids
}
