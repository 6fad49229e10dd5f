//! A virtio device's interrupt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

/// Bit of `InterruptStatus`: the device has used a buffer (virtio 1.3, 4.2.2).
pub const USED_BUFFER: u32 = 1 << 0;
/// Bit of `InterruptStatus`: the configuration has changed (virtio 1.3, 4.2.2).
pub const CONFIG_CHANGE: u32 = 1 << 1;

/// Raises a device's interrupt and holds its `InterruptStatus` register.
///
/// A clone is another handle on the same interrupt.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// `InterruptStatus`.
    status: AtomicU32,
    /// Bits of `status` that the driver cannot acknowledge away.
    sticky: AtomicU32,
    needs_reset: AtomicBool,
    /// Asserts the line when written to: an irqfd once KVM knows of it.
    line: EventFd,
}

impl Interrupt {
    /// An interrupt that writes to `line`, which need not be an irqfd.
    pub fn new(line: EventFd) -> Self {
        Self(Arc::new(Shared {
            status: AtomicU32::new(0),
            sticky: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
            line,
        }))
    }

    /// Tells the driver that buffers have been used.
    pub fn signal_used_queue(&self) {
        self.signal(USED_BUFFER);
    }

    /// Tells the driver that the configuration space has changed.
    pub fn signal_config_change(&self) {
        self.signal(CONFIG_CHANGE);
    }

    /// Sets `DEVICE_NEEDS_RESET` and tells the driver (virtio 1.3, 2.1.1).
    ///
    /// For a device that met nonsense from its driver: it stops to process its
    /// queues until the driver resets it.
    pub fn signal_needs_reset(&self) {
        self.0.needs_reset.store(true, Ordering::Release);
        self.signal(CONFIG_CHANGE);
    }

    /// Whether the device waits for a reset.
    pub fn needs_reset(&self) -> bool {
        self.0.needs_reset.load(Ordering::Acquire)
    }

    /// The line, for a backend in another process, which raises it without
    /// touching the status: from here to the next [`clear`](Self::clear) the
    /// status always says that a buffer was used.
    pub fn share_line(&self) -> &EventFd {
        self.0.sticky.store(USED_BUFFER, Ordering::Release);
        &self.0.line
    }

    /// The line, to be registered as an irqfd.
    pub fn line(&self) -> &EventFd {
        &self.0.line
    }

    /// `InterruptStatus`.
    pub fn status(&self) -> u32 {
        self.0.status.load(Ordering::Acquire) | self.0.sticky.load(Ordering::Acquire)
    }

    /// `InterruptACK`: clears the given bits.
    pub fn acknowledge(&self, bits: u32) {
        self.0.status.fetch_and(!bits, Ordering::AcqRel);
    }

    /// Back to the state after [`new`](Self::new), when the device is reset.
    pub fn clear(&self) {
        self.0.needs_reset.store(false, Ordering::Release);
        self.0.sticky.store(0, Ordering::Release);
        self.0.status.store(0, Ordering::Release);
    }

    fn signal(&self, bits: u32) {
        self.0.status.fetch_or(bits, Ordering::AcqRel);
        // Fails only when the counter is full: the line is then asserted anyway.
        let _ = self.0.line.write(1);
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    fn interrupt() -> Interrupt {
        Interrupt::new(EventFd::new(EFD_NONBLOCK).unwrap())
    }

    #[test]
    fn signal_sets_status_and_asserts_line() {
        let interrupt = interrupt();
        interrupt.signal_used_queue();
        interrupt.signal_config_change();
        assert_eq!(interrupt.status(), USED_BUFFER | CONFIG_CHANGE);
        assert_eq!(interrupt.line().read().unwrap(), 2);
    }

    #[test]
    fn acknowledge_clears_only_given_bits() {
        let interrupt = interrupt();
        interrupt.signal_used_queue();
        interrupt.signal_config_change();
        interrupt.acknowledge(USED_BUFFER);
        assert_eq!(interrupt.status(), CONFIG_CHANGE);
    }

    #[test]
    fn shared_line_reports_used_buffer_until_cleared() {
        let interrupt = interrupt();
        interrupt.share_line();
        interrupt.acknowledge(USED_BUFFER);
        assert_eq!(interrupt.status(), USED_BUFFER);
        interrupt.clear();
        assert_eq!(interrupt.status(), 0);
    }

    #[test]
    fn needs_reset_survives_acknowledgement() {
        let interrupt = interrupt();
        interrupt.signal_needs_reset();
        interrupt.acknowledge(u32::MAX);
        assert!(interrupt.needs_reset());
        interrupt.clear();
        assert!(!interrupt.needs_reset());
    }
}
