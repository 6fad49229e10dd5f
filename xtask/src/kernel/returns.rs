//! Writes plain returns to where the compiler made jumps to a return thunk.
//!
//! A kernel built to mitigate Retbleed and its like returns by a jump to
//! `__x86_return_thunk`, some 31,000 times. As it boots, it puts returns in the
//! place of all of them on processors that need no thunk, which are most, and
//! with that changes nearly every page of its code. Here they are put there
//! before; our kernel puts jumps in their place on processors that need them
//! (`guest-kernel/guest/patches/`).

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::elf::{Segment, i32_at, offset, segments};
use super::symbols::Symbols;

/// Goes into the key of cached kernels: to be changed with what is written.
pub(super) const RECIPE: &str = "returns 1";

/// A jump with a 32-bit displacement.
const JMP32: u8 = 0xe9;
/// A return in the place of such a jump, and what must not be run after it.
const RETURN: [u8; 5] = [0xc3, 0xcc, 0xcc, 0xcc, 0xcc];

/// Rewrites the return sites of the image at `vmlinux`, which objtool has listed.
pub(super) fn write_returns(vmlinux: &Path, symbols: &Symbols) -> Result<()> {
    let sites = symbols.range("__return_sites", "__return_sites_end")?;
    let thunk = symbols.address("__x86_return_thunk")?;
    let linked = segments(vmlinux)?;
    let mut image = fs::read(vmlinux).with_context(|| format!("read {}", vmlinux.display()))?;
    rewrite(&mut image, &linked, sites, thunk)?;
    fs::write(vmlinux, image).with_context(|| format!("write {}", vmlinux.display()))
}

/// `sites` are the addresses of a list of 32-bit distances, each from itself to a
/// jump to `thunk`.
fn rewrite(image: &mut [u8], linked: &[Segment], sites: Range<u64>, thunk: u64) -> Result<()> {
    for entry in sites.step_by(4) {
        let distance = i32_at(image, offset(linked, entry)?)?;
        let site = entry.wrapping_add_signed(distance.into());
        let at = offset(linked, site)?;
        let after_jump = site + RETURN.len() as u64;
        let target = after_jump.wrapping_add_signed(i32_at(image, at + 1)?.into());
        ensure!(
            image[at] == JMP32 && target == thunk,
            "the return site at {site:#x} is no jump to the return thunk"
        );
        image[at..at + RETURN.len()].copy_from_slice(&RETURN);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0xffff_ffff_8100_0000;
    const THUNK: u64 = START + 0x40;
    /// Where the file has what is loaded at [`START`].
    const OFFSET: u64 = 16;

    /// A jump at 0x20 to 0x40, listed at 0x30.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 256];
        let at = |address: usize| address + OFFSET as usize;
        image[at(0x20)] = JMP32;
        image[at(0x21)..at(0x25)].copy_from_slice(&(0x40 - 0x25_i32).to_le_bytes());
        image[at(0x30)..at(0x34)].copy_from_slice(&(0x20 - 0x30_i32).to_le_bytes());
        image
    }

    fn rewritten(mut image: Vec<u8>, thunk: u64) -> Result<Vec<u8>> {
        let segment = Segment {
            flags: 0,
            offset: OFFSET,
            virtual_address: START,
            physical_address: 0,
            file_bytes: 0x80,
            memory_bytes: 0x80,
            alignment: 1,
        };
        rewrite(&mut image, &[segment], START + 0x30..START + 0x34, thunk)?;
        Ok(image)
    }

    #[test]
    fn jumps_to_the_thunk_become_returns() {
        let mut expected = image();
        expected[0x20 + OFFSET as usize..][..5].copy_from_slice(&RETURN);
        assert_eq!(rewritten(image(), THUNK).unwrap(), expected);
    }

    #[test]
    fn what_is_no_jump_to_the_thunk_is_an_error() {
        assert!(rewritten(image(), THUNK + 1).is_err());
        let mut image = image();
        image[0x20 + OFFSET as usize] = 0x90;
        assert!(rewritten(image, THUNK).is_err());
    }

    #[test]
    fn site_outside_the_image_is_an_error() {
        let mut image = image();
        image[0x33 + OFFSET as usize] = 0x7f;
        assert!(rewritten(image, THUNK).is_err());
    }
}
