//! The real-time clock, which is not there.
//!
//! A kernel that looks for one waits as long as the clock says that it is being
//! updated, which is what ones would say. Zeros end the wait at once. The
//! guest's time comes from KVM's clock.

use crate::devices::bus::BusDevice;

/// Registers that read as zero.
#[derive(Debug)]
pub struct Cmos;

impl BusDevice for Cmos {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, _offset: u64, _data: &[u8]) {}
}
