//! The power management control register, by which the guest switches itself
//! off: what QEMU's PC has at the same port, without the ACPI tables around it.

use crate::devices::bus::BusDevice;
use crate::exit::ExitReason;
use crate::stop::Stop;

/// `SLP_EN`, with `SLP_TYP` 0 (ACPI 6.5, 4.8.3.2.1).
const SLEEP_ENABLE: u16 = 1 << 13;

/// The register.
pub struct PowerPort {
    stop: Stop,
}

impl PowerPort {
    /// `stop` is requested when the guest switches off.
    pub fn new(stop: Stop) -> Self {
        Self { stop }
    }
}

impl BusDevice for PowerPort {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if offset == 0 && data == SLEEP_ENABLE.to_le_bytes() {
            self.stop.request(ExitReason::PowerOff);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_loop::EventLoop;

    #[test]
    fn only_sleep_enable_switches_off() {
        let stop = Stop::new(EventLoop::new().unwrap().handle());
        let mut port = PowerPort::new(stop.clone());
        port.write(0, &[0x01, 0x00]);
        port.write(0, &[0x20]);
        port.write(1, &[0x20]);
        assert_eq!(stop.requested(), None);
        port.write(0, &[0x00, 0x20]);
        assert_eq!(stop.requested(), Some(&ExitReason::PowerOff));
    }
}
