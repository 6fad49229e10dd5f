//! The keyboard controller's command port, of which only 'pulse the reset line'
//! is there. Linux resets by it with the parameter `reboot=k`.

use vm_memory::Bytes;

use crate::arch::x86_64::layout::{REBOOT_FLAG, WARM_REBOOT};
use crate::devices::bus::BusDevice;
use crate::exit::ExitReason;
use crate::memory::GuestMemory;
use crate::stop::Stop;

const PULSE_RESET: u8 = 0xfe;

/// The port.
pub struct ResetPort {
    stop: Stop,
    memory: GuestMemory,
}

impl ResetPort {
    /// `stop` is requested when the guest resets the machine.
    pub fn new(stop: Stop, memory: GuestMemory) -> Self {
        Self { stop, memory }
    }

    /// With the parameter `reboot=panic_warm` a panic, and nothing else, resets
    /// in warm mode, and Linux says so in memory.
    fn reason(&self) -> ExitReason {
        match self.memory.read_obj::<u16>(REBOOT_FLAG) {
            Ok(WARM_REBOOT) => ExitReason::Panic,
            _ => ExitReason::Reset,
        }
    }
}

impl BusDevice for ResetPort {
    /// The status: the input buffer is empty, so the command may be written.
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _offset: u64, data: &[u8]) {
        if data == [PULSE_RESET] {
            self.stop.request(self.reason());
        }
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{GuestAddress, GuestMemoryMmap};

    use super::*;
    use crate::event_loop::EventLoop;

    fn reset(flag: u16) -> ExitReason {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        memory.write_obj(flag, REBOOT_FLAG).unwrap();
        let stop = Stop::new(EventLoop::new().unwrap().handle());
        let mut port = ResetPort::new(stop.clone(), memory);
        port.write(0, &[0xaa]);
        assert_eq!(stop.requested(), None);
        port.write(0, &[0xfe]);
        stop.requested().unwrap().clone()
    }

    #[test]
    fn warm_reset_is_a_panic() {
        assert_eq!(reset(0x1234), ExitReason::Panic);
        assert_eq!(reset(0), ExitReason::Reset);
    }
}
