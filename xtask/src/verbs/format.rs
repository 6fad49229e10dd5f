//! How results look.

use clap::ValueEnum;

/// What is printed on standard output.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Format {
    /// Tables for people
    Text,
    /// One JSON object
    Json,
}
