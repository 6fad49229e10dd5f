//! `bulkhead spec`: a configuration to start from.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use crate::error::Error;

/// A shell in a container with few capabilities.
const CONFIG: &str = include_str!("default_config.json");

/// Arguments of `spec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write `config.json`
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
}

/// Writes `config.json`; one that exists is left alone.
pub(crate) fn execute(args: &Args) -> Result<u8, Error> {
    let path = args.bundle.join("config.json");
    File::create_new(&path)
        .and_then(|mut file| file.write_all(CONFIG.as_bytes()))
        .map_err(Error::io("write", path))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Bundle;

    #[test]
    fn written_configuration_is_one_that_we_read() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("rootfs")).unwrap();
        let args = Args {
            bundle: directory.path().to_owned(),
        };
        execute(&args).unwrap();
        assert!(Bundle::load(directory.path()).unwrap().wants_terminal());
        execute(&args).unwrap_err();
    }
}
