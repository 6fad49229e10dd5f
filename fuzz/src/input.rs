//! How targets read what the fuzzer gives them.
//!
//! The collections of `arbitrary` end with the toss of a coin after each element,
//! or take half of all that is left: whatever the input, little comes of it.

use arbitrary::{Arbitrary, Result, Unstructured};

/// As many steps as there are bytes for.
#[derive(Debug)]
pub struct Script<T>(pub Vec<T>);

/// Up to `MAX` values.
#[derive(Debug)]
pub struct Few<T, const MAX: usize>(pub Vec<T>);

/// Up to 255 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a>(pub &'a [u8]);

/// Up to 15 bytes of text.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a>(pub &'a str);

impl<'a, T: Arbitrary<'a>> Arbitrary<'a> for Script<T> {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let mut steps = Vec::new();
        while !input.is_empty() {
            steps.push(input.arbitrary()?);
        }
        Ok(Self(steps))
    }
}

impl<'a, T: Arbitrary<'a>, const MAX: usize> Arbitrary<'a> for Few<T, MAX> {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let count = usize::from(u8::arbitrary(input)?) % (MAX + 1);
        (0..count)
            .map(|_| input.arbitrary())
            .collect::<Result<_>>()
            .map(Self)
    }
}

impl<'a> Arbitrary<'a> for Chunk<'a> {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let len = usize::from(u8::arbitrary(input)?);
        input.bytes(len.min(input.len())).map(Self)
    }
}

impl<'a> Arbitrary<'a> for Word<'a> {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let len = usize::from(u8::arbitrary(input)? % 16);
        let bytes = input.bytes(len.min(input.len()))?;
        let valid = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        Ok(Self(valid))
    }
}
