//! What depends on the processor: so far there is one.

pub mod x86_64;
