//! Where a kernel's symbols are, by its `System.map`.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};

/// The symbols of a linked kernel.
pub(super) struct Symbols {
    /// A line each: address, type, name.
    text: String,
}

impl Symbols {
    /// Reads `system_map`.
    pub(super) fn read(system_map: &Path) -> Result<Self> {
        let text = fs::read_to_string(system_map)
            .with_context(|| format!("read {}", system_map.display()))?;
        Ok(Self { text })
    }

    /// The virtual address of the symbol `name`.
    pub(super) fn address(&self, name: &str) -> Result<u64> {
        let find = |line: &str| {
            let mut words = line.split_whitespace();
            let address = words.next()?;
            (words.nth(1)? == name).then(|| u64::from_str_radix(address, 16).ok())?
        };
        self.text
            .lines()
            .find_map(find)
            .with_context(|| format!("the kernel has no symbol {name}"))
    }

    /// The virtual addresses from one symbol to another.
    pub(super) fn range(&self, start: &str, end: &str) -> Result<Range<u64>> {
        Ok(self.address(start)?..self.address(end)?)
    }
}

#[cfg(test)]
impl From<&str> for Symbols {
    fn from(text: &str) -> Self {
        Self { text: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::Symbols;

    #[test]
    fn symbols_are_found_by_their_whole_names() {
        let map = "ffffffff81a00000 D __start_rodata_x\nffffffff81b00000 D __start_rodata\n";
        let symbols = Symbols::from(map);
        assert_eq!(
            symbols.address("__start_rodata").unwrap(),
            0xffff_ffff_81b0_0000
        );
        assert!(symbols.address("__start").is_err());
    }
}
