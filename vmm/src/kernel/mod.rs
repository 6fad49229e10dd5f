//! Brings the guest's kernel and initramfs into its memory.

pub mod cmdline;
pub mod elf;
pub mod image;
pub mod initramfs;
