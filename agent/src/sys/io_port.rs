//! I/O ports.

use std::io;

use super::process::check;

/// Writes 16 bits to an I/O port, after asking the kernel for the right to.
pub(crate) fn write_port(port: u16, value: u16) -> io::Result<()> {
    // SAFETY: gives this process the right to use the ports, no more.
    check(unsafe { libc::ioperm(port.into(), 2, 1) }.into())?;
    // SAFETY: the instruction accesses no memory, and the right to use the
    // port was given above. What the write does is the caller's purpose.
    unsafe {
        core::arch::asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags));
    }
    Ok(())
}
