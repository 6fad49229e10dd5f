//! The speed of files that a container shares with its host, beside that of the same
//! work under another runtime, whose containers use the host's file system as it is.
//!
//! Counted in the emulated host, as the start is ([`crate::counted`]). What is worked on
//! lies in the host's memory: it is the way there that is measured.

mod prepare;
mod report;
mod work;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::bundle::{Size, default_config};
use crate::error::Error;
use crate::process::output;

pub use report::{Report, Row};
pub use work::work;

/// Enough for all that is worked on to stay in the guest's cache.
const SIZE: Size = Size {
    vcpus: 1,
    memory_mib: 1024,
};

/// Where a container finds what it works on, and this program.
const DIRECTORY: &str = "/work";
const PROGRAM: &str = "/storage";

/// Runs all workloads under `reference`, an OCI runtime, and under `bulkhead`, in bundles
/// below `directory`, which should be in memory. `program` is the one that calls
/// [`work`], statically linked; `system` is a root file system with the other programs
/// that it needs.
pub fn measure(
    bulkhead: &Path,
    reference: &Path,
    program: &Path,
    system: &Path,
    directory: &Path,
) -> Result<Report, Error> {
    let of = |runtime: &Path, name: &str| {
        let bundle = directory.join(name);
        make_bundle(bulkhead, program, system, &bundle)?;
        let durations = run(runtime, &bundle, &directory.join("state").join(name));
        // It takes memory that the next one needs.
        let _ = std::fs::remove_dir_all(&bundle);
        durations
    };
    let reference = of(reference, "reference")?;
    let bulkhead = of(bulkhead, "bulkhead")?;
    Ok(Report::new(&reference, &bulkhead))
}

/// A bundle with the system's programs, read-only, and something to work on.
fn make_bundle(bulkhead: &Path, program: &Path, system: &Path, bundle: &Path) -> Result<(), Error> {
    let rootfs = bundle.join("rootfs");
    prepare::root(&rootfs, program)?;
    prepare::data(&rootfs.join(DIRECTORY.trim_start_matches('/')))?;
    let mut config = default_config(bulkhead, bundle)?;
    adapt(&mut config, system);
    let file = bundle.join("config.json");
    std::fs::write(&file, config.to_string()).map_err(Error::io("write", &file))
}

fn adapt(config: &mut Value, system: &Path) {
    // What older runtimes know, too.
    config["ociVersion"] = json!("1.0.2");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!([PROGRAM, "work", DIRECTORY]);
    config["process"]["env"] = json!(["PATH=/usr/bin:/bin", "HOME=/tmp"]);
    config["root"]["readonly"] = json!(false);
    config["annotations"] = json!({
        "dev.bulkhead.vcpus": SIZE.vcpus.to_string(),
        "dev.bulkhead.memory-mib": SIZE.memory_mib.to_string(),
    });
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.push(json!({
            "destination": "/usr", "type": "bind", "source": system.join("usr"),
            "options": ["bind", "ro"],
        }));
    }
    // For caches to be dropped.
    config["linux"]["readonlyPaths"] = json!([]);
}

/// Runs the container; the duration of each workload, in nanoseconds.
fn run(runtime: &Path, bundle: &Path, state: &Path) -> Result<BTreeMap<String, u64>, Error> {
    let mut command = Command::new(runtime);
    command.arg("--root").arg(state).args(["run", "--bundle"]);
    command.arg(bundle).arg("storage");
    let durations = output(&mut command)?;
    serde_json::from_slice(&durations).map_err(|source| Error::Content {
        path: "the container's output".into(),
        what: "an object with durations",
        source,
    })
}
