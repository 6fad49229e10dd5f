//! What CPUID tells the guest: what KVM supports, made to fit the microVM.
//!
//! The vCPUs are the cores of one package, one thread each, with APIC ids from
//! 0. References: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Bits of leaf 1.
mod leaf1 {
    pub(super) const ECX_VMX: u32 = 1 << 5;
    pub(super) const ECX_TSC_DEADLINE: u32 = 1 << 24;
    pub(super) const ECX_HYPERVISOR: u32 = 1 << 31;
    pub(super) const EDX_HTT: u32 = 1 << 28;
}

/// Bits of leaf `0x8000_0001`, ECX.
mod leaf_80000001 {
    pub(super) const ECX_CMP_LEGACY: u32 = 1 << 1;
    pub(super) const ECX_SVM: u32 = 1 << 2;
    pub(super) const ECX_PERF_CORE: u32 = 1 << 23;
}

/// Level types of leaf 0xb.
const LEVEL_SMT: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// Makes the table of all vCPUs from what KVM supports.
///
/// [`set_apic_id`] is left to do for each vCPU.
pub fn build(supported: &CpuId, vcpus: u8, tsc_deadline: bool) -> Vec<kvm_cpuid_entry2> {
    let mut entries: Vec<kvm_cpuid_entry2> = supported
        .as_slice()
        .iter()
        .filter(|entry| !is_hidden(entry.function))
        .copied()
        .collect();
    for entry in &mut entries {
        match entry.function {
            0x1 => set_features(entry, vcpus, tsc_deadline),
            0x4 => set_intel_cache_sharing(entry, vcpus),
            0x8000_0001 => set_amd_features(entry, vcpus),
            0x8000_0008 => set_amd_core_count(entry, vcpus),
            0x8000_001d => set_amd_cache_sharing(entry, vcpus),
            0x8000_001e => clear(entry),
            _ => {}
        }
    }
    entries.extend(extended_topology(vcpus));
    entries
}

/// Leaves that read as zero in the guest: those that tell the host's topology
/// (leaf 0xb is made anew), performance counters, which cost and which tell
/// a guest of others, and SVM: a guest has no guests of its own, and KVM's code
/// for those is not its to attack.
fn is_hidden(function: u32) -> bool {
    const TOPOLOGY: [u32; 3] = [0xb, 0x1f, 0x8000_0026];
    const PERFORMANCE: [u32; 2] = [0xa, 0x8000_0022];
    const SVM: u32 = 0x8000_000a;
    TOPOLOGY.contains(&function) || PERFORMANCE.contains(&function) || function == SVM
}

/// Makes the table that of the vCPU with the given APIC id.
pub fn set_apic_id(entries: &mut [kvm_cpuid_entry2], apic_id: u8) {
    let id = u32::from(apic_id);
    for entry in entries {
        match entry.function {
            0x1 => entry.ebx = entry.ebx & 0x00ff_ffff | id << 24,
            0xb => entry.edx = id,
            0x8000_001e => {
                entry.eax = id;
                entry.ebx = entry.ebx & !0xff | id; // core id
            }
            _ => {}
        }
    }
}

fn set_features(entry: &mut kvm_cpuid_entry2, vcpus: u8, tsc_deadline: bool) {
    entry.ecx = entry.ecx & !leaf1::ECX_VMX | leaf1::ECX_HYPERVISOR;
    // KVM leaves this bit to the VMM, which knows whether the local APIC is
    // KVM's. With it the guest needs no other timer.
    if tsc_deadline {
        entry.ecx |= leaf1::ECX_TSC_DEADLINE;
    }
    entry.ebx = entry.ebx & 0x0000_ffff | u32::from(vcpus) << 16;
    set_bit(&mut entry.edx, leaf1::EDX_HTT, vcpus > 1);
}

/// Leaf 4: the first two levels of cache are a core's own, the third is the
/// package's.
fn set_intel_cache_sharing(entry: &mut kvm_cpuid_entry2, vcpus: u8) {
    let level = entry.eax >> 5 & 0x7;
    let sharing = if level >= 3 { u32::from(vcpus) - 1 } else { 0 };
    let cores = u32::from(vcpus) - 1;
    entry.eax = entry.eax & 0x3fff | sharing << 14 | cores.min(0x3f) << 26;
}

fn set_amd_features(entry: &mut kvm_cpuid_entry2, vcpus: u8) {
    entry.ecx &= !(leaf_80000001::ECX_PERF_CORE | leaf_80000001::ECX_SVM);
    set_bit(&mut entry.ecx, leaf_80000001::ECX_CMP_LEGACY, vcpus > 1);
}

/// Leaf `0x8000_0008`: number of cores, and how many bits of the APIC id tell
/// them apart.
fn set_amd_core_count(entry: &mut kvm_cpuid_entry2, vcpus: u8) {
    let cores = u32::from(vcpus) - 1;
    entry.ecx = entry.ecx & !0xf0ff | core_bits(vcpus) << 12 | cores;
}

/// Leaf `0x8000_001d`, as leaf 4.
fn set_amd_cache_sharing(entry: &mut kvm_cpuid_entry2, vcpus: u8) {
    let level = entry.eax >> 5 & 0x7;
    let sharing = if level >= 3 { u32::from(vcpus) - 1 } else { 0 };
    entry.eax = entry.eax & !(0xfff << 14) | sharing << 14;
}

/// Leaf 0xb: threads, cores, end.
fn extended_topology(vcpus: u8) -> [kvm_cpuid_entry2; 3] {
    let level = |index, level_type, shift, logical_processors| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: logical_processors,
        ecx: index | level_type << 8,
        ..Default::default()
    };
    [
        level(0, LEVEL_SMT, 0, 1),
        level(1, LEVEL_CORE, core_bits(vcpus), u32::from(vcpus)),
        level(2, 0, 0, 0),
    ]
}

/// Bits needed to tell `vcpus` cores apart.
fn core_bits(vcpus: u8) -> u32 {
    u32::from(vcpus).next_power_of_two().trailing_zeros()
}

fn clear(entry: &mut kvm_cpuid_entry2) {
    (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
}

fn set_bit(register: &mut u32, bit: u32, on: bool) {
    if on {
        *register |= bit;
    } else {
        *register &= !bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(functions: &[(u32, u32)], vcpus: u8) -> Vec<kvm_cpuid_entry2> {
        let supported: Vec<kvm_cpuid_entry2> = functions
            .iter()
            .map(|&(function, eax)| kvm_cpuid_entry2 {
                function,
                eax,
                ..Default::default()
            })
            .collect();
        build(&CpuId::from_entries(&supported).unwrap(), vcpus, true)
    }

    fn find(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        *entries
            .iter()
            .find(|e| (e.function, e.index) == (function, index))
            .unwrap()
    }

    #[test]
    fn guest_sees_a_hypervisor_and_its_deadline_timer() {
        let leaf = find(&table(&[(1, 0)], 1), 1, 0);
        assert_eq!(leaf.ecx, 1 << 31 | 1 << 24);
        assert_eq!(leaf.edx & 1 << 28, 0);
    }

    #[test]
    fn topology_counts_cores_of_one_package() {
        let entries = table(&[(1, 0), (0x8000_0008, 0)], 5);
        assert_eq!(find(&entries, 1, 0).ebx >> 16 & 0xff, 5);
        assert_eq!(find(&entries, 0x8000_0008, 0).ecx, 3 << 12 | 4);
        let smt = find(&entries, 0xb, 0);
        assert_eq!((smt.eax, smt.ebx, smt.ecx), (0, 1, 0x100));
        let core = find(&entries, 0xb, 1);
        assert_eq!((core.eax, core.ebx, core.ecx), (3, 5, 0x201));
    }

    #[test]
    fn only_the_last_cache_level_is_shared() {
        let level = |n: u32| n << 5 | 1;
        for function in [4, 0x8000_001d] {
            let private = find(&table(&[(function, level(2))], 4), function, 0);
            assert_eq!(private.eax >> 14 & 0xfff, 0);
            let shared = find(&table(&[(function, level(3))], 4), function, 0);
            assert_eq!(shared.eax >> 14 & 0xfff, 3);
        }
    }

    #[test]
    fn apic_id_is_set_where_it_is_told() {
        let mut entries = table(&[(1, 0), (0x8000_001e, 0)], 4);
        set_apic_id(&mut entries, 3);
        assert_eq!(find(&entries, 1, 0).ebx >> 24, 3);
        assert!(
            entries
                .iter()
                .filter(|e| e.function == 0xb)
                .all(|e| e.edx == 3)
        );
        assert_eq!(find(&entries, 0x8000_001e, 0).eax, 3);
    }

    #[test]
    fn guest_has_no_virtualization_of_its_own() {
        let all = |function| kvm_cpuid_entry2 {
            function,
            ecx: u32::MAX,
            ..Default::default()
        };
        let supported = [0x1, 0x8000_0001, 0x8000_000a].map(all);
        let entries = build(&CpuId::from_entries(&supported).unwrap(), 1, true);
        assert_eq!(find(&entries, 1, 0).ecx & 1 << 5, 0);
        assert_eq!(find(&entries, 0x8000_0001, 0).ecx & 1 << 2, 0);
        assert!(entries.iter().all(|entry| entry.function != 0x8000_000a));
    }

    #[test]
    fn performance_counters_are_hidden() {
        assert!(
            table(&[(0xa, 0x0730_0404)], 1)
                .iter()
                .all(|entry| entry.function != 0xa)
        );
    }
}
