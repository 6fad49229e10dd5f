//! Software as Debian packages it, in containers: `cargo xtask test --all`.
#![forbid(unsafe_code)]

mod databases;
mod development;
mod machine;
mod servers;
mod systemd;

pub(crate) use machine::Machine;
