//! How long the start of a container takes, and what an idle one costs.
//!
//! Two users of it: `cargo xtask bench startup` has the program `startup` count in the
//! emulated host ([`counted`]), where an instruction is a nanosecond; `bulkhead bench
//! startup` measures the machine it runs on ([`measured`]).
//!
//! And how fast its files are, counted the same way ([`storage`]).
#![forbid(unsafe_code)]

mod bundle;
pub mod counted;
mod error;
pub mod machine_code;
pub mod measured;
mod memory;
mod pod;
mod process;
pub mod storage;
mod timeline;
mod watch;

pub use bundle::Size;
pub use error::{Error, Outcome, fail};
pub use watch::{Interrupt, Watch};
