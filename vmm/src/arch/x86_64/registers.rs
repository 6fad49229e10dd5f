//! The boot processor's registers at the kernel's 64-bit entry point
//! (`Documentation/arch/x86/boot.rst`, "64-bit Boot Protocol").

use kvm_bindings::{kvm_regs, kvm_sregs};
use vm_memory::GuestAddress;

use super::gdt;
use super::layout::{BOOT_STACK_TOP, GDT, PML4, ZERO_PAGE};

const CR0_PE: u64 = 1 << 0;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// The one bit of RFLAGS that is always set.
const RFLAGS_RESERVED: u64 = 1 << 1;

/// General registers: RSI holds the boot parameters' address.
pub fn general(entry: GuestAddress) -> kvm_regs {
    kvm_regs {
        rip: entry.0,
        rsi: ZERO_PAGE.0,
        rsp: BOOT_STACK_TOP.0,
        rflags: RFLAGS_RESERVED,
        ..Default::default()
    }
}

/// Changes the special registers from their reset values to long mode with
/// flat segments and paging on.
pub fn set_long_mode(sregs: &mut kvm_sregs) {
    sregs.gdt.base = GDT.0;
    sregs.gdt.limit = size_of_val(&gdt::TABLE) as u16 - 1;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cs = gdt::CODE;
    sregs.ds = gdt::DATA;
    sregs.es = gdt::DATA;
    sregs.fs = gdt::DATA;
    sregs.gs = gdt::DATA;
    sregs.ss = gdt::DATA;
    sregs.tr = gdt::TSS;
    sregs.cr3 = PML4.0;
    sregs.cr4 |= CR4_PAE;
    sregs.cr0 |= CR0_PE | CR0_PG;
    sregs.efer |= EFER_LME | EFER_LMA;
}
