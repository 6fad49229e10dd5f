//! A virtual processor: its set-up and its run loop.

pub mod kick;
pub mod threads;

use std::sync::Arc;

use kvm_bindings::kvm_cpuid_entry2;
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use vm_memory::GuestAddress;
use vmm_sys_util::errno;

use crate::arch::x86_64::{cpuid, lapic, msrs, registers};
use crate::control::GuestTsc;
use crate::devices::bus::Bus;
use crate::exit::ExitReason;
use crate::kvm::{self, KvmError, failed};
use crate::stop::Stop;

/// The address spaces that a vCPU's accesses go to.
pub struct Buses {
    /// I/O ports.
    pub pio: Bus,
    /// Memory that is not RAM.
    pub mmio: Bus,
}

/// A vCPU.
pub struct Vcpu {
    id: u8,
    fd: VcpuFd,
    buses: Arc<Buses>,
    stop: Stop,
}

/// What a vCPU does next.
type Step = Result<(), ExitReason>;

impl Vcpu {
    /// Makes a vCPU. It waits for another to start it, unless it is given an
    /// [entry point](Self::enter_at).
    pub fn new(
        vm: &VmFd,
        id: u8,
        cpuid: &mut [kvm_cpuid_entry2],
        buses: Arc<Buses>,
        stop: Stop,
    ) -> Result<Self, KvmError> {
        let fd = vm
            .create_vcpu(u64::from(id))
            .map_err(failed("KVM_CREATE_VCPU"))?;
        // 0 is the host's present rate. KVM's own choice dates from when it was
        // loaded, which may be before the kernel refined its calibration: if the
        // two are too far apart, KVM drops every timer of the guest's.
        fd.set_tsc_khz(0).map_err(failed("KVM_SET_TSC_KHZ"))?;
        cpuid::set_apic_id(cpuid, id);
        fd.set_cpuid2(&kvm::cpuid_table(cpuid)?)
            .map_err(failed("KVM_SET_CPUID2"))?;
        fd.set_msrs(&msrs::boot_msrs())
            .map_err(failed("KVM_SET_MSRS"))?;
        Ok(Self {
            id,
            fd,
            buses,
            stop,
        })
    }

    /// Makes this the boot processor, which starts at `entry`.
    pub fn enter_at(&self, entry: GuestAddress) -> Result<(), KvmError> {
        let mut sregs = self.fd.get_sregs().map_err(failed("KVM_GET_SREGS"))?;
        registers::set_long_mode(&mut sregs);
        self.fd.set_sregs(&sregs).map_err(failed("KVM_SET_SREGS"))?;
        self.fd
            .set_regs(&registers::general(entry))
            .map_err(failed("KVM_SET_REGS"))?;
        let mut state = self.fd.get_lapic().map_err(failed("KVM_GET_LAPIC"))?;
        lapic::set_virtual_wire(&mut state);
        self.fd.set_lapic(&state).map_err(failed("KVM_SET_LAPIC"))
    }

    /// Its number, which is also its APIC id.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// How its time-stamp counter relates to the host's, if KVM tells.
    pub fn guest_tsc(&self) -> Option<GuestTsc> {
        kvm::guest_tsc(&self.fd)
    }

    /// Runs the vCPU on this thread until a stop is requested, by it or by
    /// others, who then [kick](kick::kick) the thread.
    pub fn run(&mut self) {
        let _target = kick::Target::new(&mut self.fd);
        while self.stop.requested().is_none() {
            if let Err(reason) = self.step() {
                self.stop.request(reason);
            }
        }
    }

    /// Executes the guest up to its next exit, and handles that.
    fn step(&mut self) -> Step {
        match self.fd.run() {
            Ok(VcpuExit::IoIn(port, data)) => self.buses.pio.read(u64::from(port), data),
            Ok(VcpuExit::IoOut(port, data)) => self.buses.pio.write(u64::from(port), data),
            Ok(VcpuExit::MmioRead(address, data)) => self.buses.mmio.read(address, data),
            Ok(VcpuExit::MmioWrite(address, data)) => self.buses.mmio.write(address, data),
            Ok(VcpuExit::Intr) => {}
            Ok(VcpuExit::Shutdown) => return Err(ExitReason::TripleFault { vcpu: self.id }),
            Ok(VcpuExit::FailEntry(reason, cpu)) => return self.entry_failed(reason, cpu),
            Ok(VcpuExit::InternalError) => return self.internal_error(),
            Ok(exit) => {
                let exit = format!("{exit:?}");
                return self.unexpected_exit(&exit);
            }
            Err(error) => return self.run_failed(error),
        }
        Ok(())
    }

    /// The processor refused the state it was to enter.
    fn entry_failed(&self, reason: u64, cpu: u32) -> Step {
        self.fail(format!(
            "the processor refused entry: reason {reason:#x} on host CPU {cpu}"
        ))
    }

    /// KVM could not emulate an instruction or deliver an event.
    fn internal_error(&mut self) -> Step {
        let error = kvm::internal_error(&mut self.fd);
        let place = self
            .fd
            .get_regs()
            .map_or_else(|_| String::new(), |r| format!(" at {:#x}", r.rip));
        self.fail(format!("KVM internal error: {error}{place}"))
    }

    /// An exit that this machine has no use for.
    fn unexpected_exit(&self, exit: &str) -> Step {
        self.fail(format!("unexpected exit: {exit}"))
    }

    /// The run was interrupted, or it could not be done.
    fn run_failed(&mut self, error: errno::Error) -> Step {
        match error.errno() {
            // A kick, or (the latter) a vCPU that has just been started.
            libc::EINTR | libc::EAGAIN => {
                self.fd.set_kvm_immediate_exit(0);
                Ok(())
            }
            _ => self.fail(format!("KVM_RUN failed: {error}")),
        }
    }

    fn fail(&self, detail: String) -> Step {
        Err(ExitReason::VcpuFailed {
            vcpu: self.id,
            detail,
        })
    }
}
