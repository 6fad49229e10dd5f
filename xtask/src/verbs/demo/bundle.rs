//! The demonstration's OCI bundle.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{cargo, paths};

/// The exit code of the container's command, which is to come through.
pub(super) const EXIT_CODE: u8 = 42;

/// What the container does: it shows where it is.
const SCRIPT: &str = r#"
. /etc/os-release
echo "hello from $PRETTY_NAME, kernel $(uname -r), host name $(hostname)"
echo "I am process $$, user $(id -un); I see $(ls -d /proc/[0-9]* | wc -l) processes and $(nproc) CPU"
"#;

/// Makes a bundle that runs [`SCRIPT`] in `rootfs`, which stays as it is.
pub(super) fn make(bulkhead: &Path, rootfs: &Path) -> Result<PathBuf> {
    let bundle = paths::target().join("demo");
    fs::create_dir_all(&bundle).with_context(|| format!("create {}", bundle.display()))?;
    let config_file = bundle.join("config.json");
    if config_file.exists() {
        fs::remove_file(&config_file).context("remove the last demonstration's config.json")?;
    }
    let mut spec = Command::new(bulkhead);
    cargo::run(spec.args(["spec", "--bundle"]).arg(&bundle))?;

    let text = fs::read(&config_file).context("read what `bulkhead spec` wrote")?;
    let mut config: Value =
        serde_json::from_slice(&text).context("`bulkhead spec` wrote no JSON")?;
    config["root"] = json!({"path": rootfs, "readonly": true});
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/sh", "-c", format!("{SCRIPT}exit {EXIT_CODE}")]);
    fs::write(&config_file, serde_json::to_vec_pretty(&config)?).context("write config.json")?;
    Ok(bundle)
}
