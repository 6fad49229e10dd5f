//! The devices behind I/O ports.
#![no_main]

use arbitrary::Arbitrary;
use bulkhead_fuzz::input::{Chunk, Script};
use bulkhead_vmm::arch::x86_64::layout::{CMOS_PORT, POWER_PORT, RESET_PORT, SERIAL_PORT};
use bulkhead_vmm::devices::bus::{Bus, BusDevice};
use bulkhead_vmm::devices::cmos::Cmos;
use bulkhead_vmm::devices::console::Console;
use bulkhead_vmm::devices::power::PowerPort;
use bulkhead_vmm::devices::reset::ResetPort;
use bulkhead_vmm::devices::serial::SerialPort;
use bulkhead_vmm::event_loop::EventLoop;
use bulkhead_vmm::memory::GuestMemory;
use bulkhead_vmm::stop::Stop;
use libfuzzer_sys::fuzz_target;
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// What the console remembers at most.
const TAIL_MAX: usize = 64 << 10;

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// Any access,
    Read { port: u16, len: u8 },
    /// of any length.
    Write { port: u16, bytes: Chunk<'a> },
    /// The kernel's messages.
    Print { register: u8, text: Chunk<'a> },
}

fuzz_target!(|steps: Script<Step<'_>>| {
    let stop = Stop::new(EventLoop::new().unwrap().handle());
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    let console = Console::without_sink();
    let line = EventFd::new(EFD_NONBLOCK).unwrap();
    let mut bus = Bus::default();
    let mut insert = |(port, count): (u16, u16), device: Box<dyn BusDevice>| {
        bus.insert(u64::from(port), u64::from(count), device);
    };
    insert(
        SERIAL_PORT,
        Box::new(SerialPort::new(line, console.clone())),
    );
    insert(RESET_PORT, Box::new(ResetPort::new(stop.clone(), memory)));
    insert(POWER_PORT, Box::new(PowerPort::new(stop.clone())));
    insert(CMOS_PORT, Box::new(Cmos));
    for step in steps.0 {
        match step {
            Step::Read { port, len } => {
                bus.read(u64::from(port), &mut vec![0; usize::from(len)]);
            }
            Step::Write {
                port,
                bytes: Chunk(bytes),
            } => bus.write(u64::from(port), bytes),
            Step::Print {
                register,
                text: Chunk(text),
            } => {
                let port = u64::from(SERIAL_PORT.0) + u64::from(register % 8);
                for byte in text {
                    bus.write(port, &[*byte]);
                }
            }
        }
    }
    // A byte that is no text is shown as three.
    assert!(console.tail().len() <= 3 * TAIL_MAX);
});
