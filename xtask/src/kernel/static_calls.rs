//! Sorts the kernel's list of static calls, which it would do as it boots.
//!
//! The entries are those of `struct static_call_site`: a place in the code, and the
//! key of the function that is called there, as distances from themselves. The
//! kernel wants those of one key beside each other, in the order of the keys'
//! addresses; the two lowest bits of a key are flags.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};

use super::elf::{Segment, i32_at, offset, segments};
use super::symbols::Symbols;

/// Goes into the key of cached kernels: to be changed with the order.
pub(super) const RECIPE: &str = "static calls 1";

/// Bytes of an entry: two distances.
const ENTRY: u64 = 8;

/// The bits of a key that are not its address.
const FLAGS: u64 = 0b11;

/// Sorts the list in the image at `vmlinux`.
pub(super) fn sort(vmlinux: &Path, symbols: &Symbols) -> Result<()> {
    let list = symbols.range("__start_static_call_sites", "__stop_static_call_sites")?;
    let linked = segments(vmlinux)?;
    let mut image = fs::read(vmlinux).with_context(|| format!("read {}", vmlinux.display()))?;
    sort_list(&mut image, &linked, list)?;
    fs::write(vmlinux, image).with_context(|| format!("write {}", vmlinux.display()))
}

fn sort_list(image: &mut [u8], linked: &[Segment], list: Range<u64>) -> Result<()> {
    let mut sites = Vec::new();
    for entry in list.clone().step_by(ENTRY as usize) {
        let at = offset(linked, entry)?;
        let code = entry.wrapping_add_signed(i32_at(image, at)?.into());
        let key = (entry + 4).wrapping_add_signed(i32_at(image, at + 4)?.into());
        sites.push((key, code));
    }
    sites.sort_by_key(|(key, _)| key & !FLAGS);
    for (entry, (key, code)) in list.step_by(ENTRY as usize).zip(sites) {
        let at = offset(linked, entry)?;
        image[at..at + 4].copy_from_slice(&distance(entry, code)?);
        image[at + 4..at + 8].copy_from_slice(&distance(entry + 4, key)?);
    }
    Ok(())
}

fn distance(from: u64, to: u64) -> Result<[u8; 4]> {
    let distance = i32::try_from(to.wrapping_sub(from).cast_signed())
        .context("a static call is too far from its entry in the list")?;
    Ok(distance.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0xffff_ffff_8100_0000;

    #[test]
    fn entries_are_in_the_order_of_their_keys() {
        let segment = Segment {
            flags: 0,
            offset: 0,
            virtual_address: START,
            physical_address: 0,
            file_bytes: 64,
            memory_bytes: 64,
            alignment: 1,
        };
        // Places in the code, and keys; one has a flag.
        let unsorted = [(100, 800), (200, 401), (300, 800), (50, 400)];
        let mut image = vec![0; 64];
        for (index, (code, key)) in unsorted.into_iter().enumerate() {
            let at = index * 8;
            image[at..at + 4].copy_from_slice(&(code - at as i32).to_le_bytes());
            image[at + 4..at + 8].copy_from_slice(&(key - at as i32 - 4).to_le_bytes());
        }
        sort_list(&mut image, &[segment], START..START + 32).unwrap();
        let sorted: Vec<_> = (0..32)
            .step_by(8)
            .map(|at| {
                let number = |at: usize| i32_at(&image, at).unwrap() + at as i32;
                (number(at), number(at + 4))
            })
            .collect();
        assert_eq!(sorted, [(200, 401), (50, 400), (100, 800), (300, 800)]);
        assert_eq!(image[32..], [0; 32]);
    }
}
