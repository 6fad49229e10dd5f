//! `bulkhead checkpoint` and `restore`: runc's verbs, which engines may try.

use crate::error::Error;

/// Arguments of `checkpoint` and `restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whatever runc takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<String>,
}

/// Says that it cannot be done.
pub(crate) fn refuse(verb: &'static str) -> Result<u8, Error> {
    Err(Error::NotSupported { verb })
}
