//! From an address to the device that answers there.

use std::sync::{Mutex, PoisonError};

/// A device with registers.
///
/// Called on vCPU threads, by one at a time. Offsets and lengths are the
/// guest's choice: an access may reach beyond the device's end.
pub trait BusDevice: Send {
    /// Reads registers. Bytes left alone read as ones.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// Writes registers.
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// The devices of one address space: I/O ports or memory.
///
/// Where there is no device, reads give ones and writes are lost, as on a PC.
#[derive(Default)]
pub struct Bus {
    /// Sorted by start, without overlaps.
    slots: Vec<Slot>,
}

struct Slot {
    start: u64,
    len: u64,
    device: Mutex<Box<dyn BusDevice>>,
}

impl Bus {
    /// Puts a device at `start`.
    ///
    /// # Panics
    ///
    /// If it overlaps another: the addresses are the VMM's own choice.
    pub fn insert(&mut self, start: u64, len: u64, device: Box<dyn BusDevice>) {
        let index = self.slots.partition_point(|slot| slot.start < start);
        let after_previous = index
            .checked_sub(1)
            .is_none_or(|i| self.slots[i].start + self.slots[i].len <= start);
        let before_next = self
            .slots
            .get(index)
            .is_none_or(|next| start + len <= next.start);
        assert!(
            after_previous && before_next,
            "devices overlap at {start:#x}"
        );
        self.slots.insert(
            index,
            Slot {
                start,
                len,
                device: Mutex::new(device),
            },
        );
    }

    /// The guest reads from `address`.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        self.with_device(address, |device, offset| device.read(offset, data));
    }

    /// The guest writes to `address`.
    pub fn write(&self, address: u64, data: &[u8]) {
        self.with_device(address, |device, offset| device.write(offset, data));
    }

    fn with_device(&self, address: u64, access: impl FnOnce(&mut dyn BusDevice, u64)) {
        let index = self.slots.partition_point(|slot| slot.start <= address);
        let Some(slot) = index.checked_sub(1).map(|i| &self.slots[i]) else {
            return;
        };
        let offset = address - slot.start;
        if offset < slot.len {
            let mut device = slot.device.lock().unwrap_or_else(PoisonError::into_inner);
            access(device.as_mut(), offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Reads as its own mark, and reports writes.
    struct Marked(u8, Sender<(u8, u64, Vec<u8>)>);

    impl BusDevice for Marked {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            data[0] = self.0 + offset as u8;
        }

        fn write(&mut self, offset: u64, data: &[u8]) {
            self.1.send((self.0, offset, data.to_vec())).unwrap();
        }
    }

    #[test]
    fn access_reaches_the_device_at_the_address() {
        let (sender, writes) = channel();
        let mut bus = Bus::default();
        bus.insert(0x3f8, 8, Box::new(Marked(0x10, sender.clone())));
        bus.insert(0x64, 1, Box::new(Marked(0x20, sender)));

        let mut data = [0; 2];
        bus.read(0x3fa, &mut data);
        assert_eq!(data, [0x12, 0xff]);
        bus.write(0x64, &[0xfe]);
        assert_eq!(writes.try_recv().unwrap(), (0x20, 0, vec![0xfe]));
    }

    #[test]
    fn access_beside_devices_reads_as_ones() {
        let (sender, writes) = channel();
        let mut bus = Bus::default();
        bus.insert(0x10, 2, Box::new(Marked(1, sender)));
        for address in [0, 0xf, 0x12, u64::MAX] {
            let mut data = [0; 4];
            bus.read(address, &mut data);
            assert_eq!(data, [0xff; 4]);
            bus.write(address, &[1]);
        }
        assert!(writes.try_recv().is_err());
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn overlapping_devices_are_a_bug() {
        let (sender, _writes) = channel();
        let mut bus = Bus::default();
        bus.insert(0x10, 8, Box::new(Marked(1, sender.clone())));
        bus.insert(0x17, 1, Box::new(Marked(2, sender)));
    }
}
