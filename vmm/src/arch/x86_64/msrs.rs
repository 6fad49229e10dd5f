//! Model-specific registers that firmware would have set.
//!
//! KVM's reset values serve for the others. The time-stamp counters need no
//! write: KVM starts those of vCPUs made within a second of each other
//! synchronised.

use kvm_bindings::{Msrs, kvm_msr_entry};

const IA32_MISC_ENABLE: u32 = 0x1a0;
const IA32_MTRR_DEF_TYPE: u32 = 0x2ff;

/// Fast string operation: without it Linux does not use `rep movs`.
const MISC_ENABLE_FAST_STRING: u64 = 1 << 0;
/// Memory type ranges are enabled.
const MTRR_ENABLE: u64 = 1 << 11;
/// Write-back.
const MTRR_WRITE_BACK: u64 = 6;

/// The registers and their values at boot, the same on each vCPU.
///
/// # Panics
///
/// Never: the list is shorter than what [`Msrs`] holds.
pub fn boot_msrs() -> Msrs {
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    };
    Msrs::from_entries(&[
        entry(IA32_MISC_ENABLE, MISC_ENABLE_FAST_STRING),
        entry(IA32_MTRR_DEF_TYPE, MTRR_ENABLE | MTRR_WRITE_BACK),
    ])
    .expect("two entries fit")
}
