//! The machine the guest's kernel finds at its first instruction: Linux's
//! 64-bit boot protocol (`Documentation/arch/x86/boot.rst`), with neither
//! firmware nor ACPI.

pub mod boot_params;
pub mod cpuid;
pub mod gdt;
pub mod lapic;
pub mod layout;
pub mod mptable;
pub mod msrs;
pub mod page_tables;
pub mod registers;
