//! What the VMM asks of KVM, beyond the safe calls of `kvm-ioctls`.

use std::fmt;
use std::io;

use kvm_bindings::{
    CpuId, KVM_CAP_PMU_CAPABILITY, KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_SIMUL_EX, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, KVM_MAX_CPUID_ENTRIES,
    KVM_PMU_CAP_DISABLE, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, kvm_cpuid_entry2, kvm_device_attr,
    kvm_enable_cap, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vm_memory::{GuestMemory as _, GuestMemoryRegion as _};
use vmm_sys_util::errno;
use vmm_sys_util::ioctl::ioctl_with_ref;

use crate::arch::x86_64::layout::KVM_TSS;
use crate::control::GuestTsc;
use crate::memory::GuestMemory;

/// Numbers of ioctls that `kvm-ioctls` does not offer.
#[allow(missing_docs)]
mod number {
    use kvm_bindings::{KVMIO, kvm_device_attr};
    use vmm_sys_util::ioctl_iow_nr;

    ioctl_iow_nr!(KVM_GET_DEVICE_ATTR, KVMIO, 0xe2, kvm_device_attr);
}

/// A call to KVM failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed")]
pub struct KvmError {
    /// The ioctl.
    pub call: &'static str,
    /// Why.
    pub source: io::Error,
}

/// Turns the error of the named call into a [`KvmError`].
pub fn failed(call: &'static str) -> impl FnOnce(errno::Error) -> KvmError {
    move |error| KvmError {
        call,
        source: error.into(),
    }
}

/// Makes a virtual machine with KVM's own interrupt controllers: local APICs,
/// I/O APIC and PICs.
///
/// They are KVM's altogether, rather than only the local APICs ("split"): that
/// takes an I/O APIC of our own to emulate and defend, and gains nothing where
/// all device interrupts are irqfds. There is no PIT: a guest that knows its
/// time-stamp counter's frequency (from KVM's clock) and has the deadline timer
/// (see [`cpuid`](crate::arch::x86_64::cpuid)) does not look for one.
pub fn create_vm(kvm: &Kvm) -> Result<VmFd, KvmError> {
    let vm = loop {
        match kvm.create_vm() {
            // Making a VM takes all locks of the address space, and a signal
            // ends that wait.
            Err(error) if error.errno() == libc::EINTR => {}
            result => break result.map_err(failed("KVM_CREATE_VM"))?,
        }
    };
    vm.set_tss_address(KVM_TSS.0 as usize)
        .map_err(failed("KVM_SET_TSS_ADDR"))?;
    vm.create_irq_chip().map_err(failed("KVM_CREATE_IRQCHIP"))?;
    disable_performance_counters(&vm);
    Ok(vm)
}

/// AMD's oldest counters have no bit in CPUID by which to hide them. A KVM that
/// does not know the call (before Linux 5.18), or has no counters, refuses it.
fn disable_performance_counters(vm: &VmFd) {
    let _ = vm.enable_cap(&kvm_enable_cap {
        cap: KVM_CAP_PMU_CAPABILITY,
        args: [KVM_PMU_CAP_DISABLE.into(), 0, 0, 0],
        ..Default::default()
    });
}

/// Whether the guest can have the deadline timer.
pub fn has_tsc_deadline(kvm: &Kvm) -> bool {
    kvm.check_extension(Cap::TscDeadlineTimer)
}

/// A virtual machine with memory: what it runs in stays mapped as long as it
/// is there.
#[derive(Debug)]
pub struct VmWithMemory {
    // Dropped first: no vCPU may be left when the memory is unmapped.
    vm: VmFd,
    memory: GuestMemory,
}

impl VmWithMemory {
    /// Makes `memory` the virtual machine's RAM.
    #[allow(unsafe_code)]
    pub fn new(vm: VmFd, memory: GuestMemory) -> Result<Self, KvmError> {
        for (slot, region) in memory.iter().enumerate() {
            let region = kvm_userspace_memory_region {
                slot: slot as u32,
                flags: 0,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
            };
            // SAFETY: the region is a mapping of that size, which `Self` keeps
            // as long as the virtual machine. Guest RAM is accessed through
            // volatile slices only, so that the guest can change it any time.
            unsafe { vm.set_user_memory_region(region) }
                .map_err(failed("KVM_SET_USER_MEMORY_REGION"))?;
        }
        Ok(Self { vm, memory })
    }

    /// The virtual machine.
    pub fn fd(&self) -> &VmFd {
        &self.vm
    }

    /// Its RAM.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }
}

/// What CPUID can tell a guest.
pub fn supported_cpuid(kvm: &Kvm) -> Result<CpuId, KvmError> {
    kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(failed("KVM_GET_SUPPORTED_CPUID"))
}

/// The table to give to a vCPU.
pub fn cpuid_table(entries: &[kvm_cpuid_entry2]) -> Result<CpuId, KvmError> {
    CpuId::from_entries(entries).map_err(|_| KvmError {
        call: "KVM_SET_CPUID2",
        source: io::ErrorKind::ArgumentListTooLong.into(),
    })
}

/// Why KVM gave up on a vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalError {
    suberror: u32,
    data: Vec<u64>,
}

impl fmt::Display for InternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.suberror {
            KVM_INTERNAL_ERROR_EMULATION => write!(f, "cannot emulate an instruction")?,
            KVM_INTERNAL_ERROR_SIMUL_EX => write!(f, "simultaneous exceptions")?,
            KVM_INTERNAL_ERROR_DELIVERY_EV => write!(f, "an exit while an event was delivered")?,
            KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON => write!(f, "unexpected exit reason")?,
            suberror => write!(f, "suberror {suberror}")?,
        }
        write!(f, " (data {:x?})", self.data)
    }
}

/// Reads the details of the internal error with which the last run ended.
#[allow(unsafe_code)]
pub fn internal_error(vcpu: &mut VcpuFd) -> InternalError {
    let run = vcpu.get_kvm_run();
    // SAFETY: all variants of the union are plain numbers, so that reading one
    // that KVM has not written is merely pointless.
    let internal = unsafe { run.__bindgen_anon_1.internal };
    let count = internal.data.len().min(internal.ndata as usize);
    InternalError {
        suberror: internal.suberror,
        data: internal.data[..count].to_vec(),
    }
}

/// How the vCPU's time-stamp counter relates to the host's, if KVM tells (since
/// Linux 5.16).
#[allow(unsafe_code)]
pub fn guest_tsc(vcpu: &VcpuFd) -> Option<GuestTsc> {
    let mut offset = 0u64;
    let attribute = kvm_device_attr {
        group: KVM_VCPU_TSC_CTRL,
        attr: u64::from(KVM_VCPU_TSC_OFFSET),
        addr: &raw mut offset as u64,
        flags: 0,
    };
    // SAFETY: the descriptor is a vCPU's, whose TSC offset is 64 bits wide, and
    // that is what `addr` points at.
    let result = unsafe { ioctl_with_ref(vcpu, number::KVM_GET_DEVICE_ATTR(), &attribute) };
    let khz = vcpu.get_tsc_khz().ok()?;
    (result == 0).then_some(GuestTsc { offset, khz })
}
