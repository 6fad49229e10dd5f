//! The program `bulkhead`. All of it is in the library, where tests and fuzz
//! targets reach it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    bulkhead::main()
}
