//! The serial port, for the kernel's messages. Nothing is ever received on it.

use std::io;

use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial};
use vmm_sys_util::eventfd::EventFd;

use crate::devices::bus::BusDevice;
use crate::devices::console::Console;

/// A 16550 whose output goes to a console.
pub struct SerialPort(Serial<Line, NoEvents, Console>);

/// The port's interrupt line.
struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

impl SerialPort {
    /// A port that raises its interrupt by writing to `line`.
    pub fn new(line: EventFd, console: Console) -> Self {
        Self(Serial::new(Line(line), console))
    }
}

impl BusDevice for SerialPort {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        // The registers are a byte wide; so are the driver's accesses.
        if let ([byte], Ok(offset)) = (data, u8::try_from(offset)) {
            *byte = self.0.read(offset);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let ([byte], Ok(offset)) = (data, u8::try_from(offset)) {
            // Fails only if the interrupt line's counter is full, and the
            // interrupt pending anyway: the console takes all bytes.
            let _ = self.0.write(offset, *byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    fn port() -> (SerialPort, Console) {
        let console = Console::without_sink();
        (
            SerialPort::new(EventFd::new(EFD_NONBLOCK).unwrap(), console.clone()),
            console,
        )
    }

    #[test]
    fn written_bytes_reach_the_console() {
        let (mut port, console) = port();
        for byte in b"hi" {
            port.write(0, &[*byte]);
        }
        assert_eq!(console.tail(), "hi");
    }

    #[test]
    fn transmitter_is_always_ready() {
        let mut status = [0];
        port().0.read(5, &mut status);
        assert_eq!(status[0] & 0x60, 0x60);
    }

    proptest! {
        #[test]
        fn any_access_is_borne(
            accesses in proptest::collection::vec((any::<bool>(), 0u64..9, 1usize..5, any::<u8>()), 0..200),
        ) {
            let (mut port, _console) = port();
            for (is_write, offset, len, byte) in accesses {
                if is_write {
                    port.write(offset, &vec![byte; len]);
                } else {
                    port.read(offset, &mut vec![0; len]);
                }
            }
        }
    }
}
