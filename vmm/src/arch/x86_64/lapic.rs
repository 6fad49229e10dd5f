//! The boot processor's local interrupt pins, as firmware leaves them: virtual
//! wire mode (Intel `MultiProcessor` Specification 1.4, 3.6.2.2).

use kvm_bindings::kvm_lapic_state;

/// Register offsets (Intel SDM volume 3, table 11-1).
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;

/// Delivery modes (Intel SDM volume 3, 11.5.1).
const MODE_MASK: u32 = 0x700;
const MODE_NMI: u32 = 0x400;
const MODE_EXT_INT: u32 = 0x700;
const MASKED: u32 = 1 << 16;

/// Routes the interrupt controller's output to LINT0 and NMI to LINT1.
pub fn set_virtual_wire(lapic: &mut kvm_lapic_state) {
    set_mode(lapic, LVT_LINT0, MODE_EXT_INT);
    set_mode(lapic, LVT_LINT1, MODE_NMI);
}

fn set_mode(lapic: &mut kvm_lapic_state, offset: usize, mode: u32) {
    let register = &mut lapic.regs[offset..offset + 4];
    let bytes = [0, 1, 2, 3].map(|i| register[i] as u8);
    let value = u32::from_le_bytes(bytes) & !(MODE_MASK | MASKED) | mode;
    for (to, from) in register.iter_mut().zip(value.to_le_bytes()) {
        *to = from as i8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_get_their_modes_and_are_unmasked() {
        let mut lapic = kvm_lapic_state::default();
        lapic.regs[LVT_LINT0 + 2] = 1; // masked
        set_virtual_wire(&mut lapic);
        assert_eq!(lapic.regs[LVT_LINT0..LVT_LINT0 + 4], [0, 7, 0, 0]);
        assert_eq!(lapic.regs[LVT_LINT1..LVT_LINT1 + 4], [0, 4, 0, 0]);
    }
}
