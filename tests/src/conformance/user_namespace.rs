//! User namespaces and their mappings.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Check;
use super::bench::Bench;
use super::container::Container;

pub(super) const CASES: &[(&str, Check)] = &[
    ("linux_uid_mappings", uid_mappings),
    ("linux_uid_mappings_files", files),
    ("linux_uid_mappings_capabilities", capabilities),
    ("linux_uid_mappings_invalid", invalid),
];

/// The host's id of the container's root.
const BASE: u32 = 100_000;

fn with_mappings<'b>(bench: &'b Bench<'b>, mappings: &Value) -> Result<Container<'b>> {
    let container = bench.container();
    let container = container
        .push("/linux/namespaces", json!({ "type": "user" }))
        .set("/linux/uidMappings", mappings.clone())
        .set("/linux/gidMappings", mappings.clone());
    chown(container.file("/"), Some(BASE), Some(BASE))?;
    Ok(container)
}

fn mapped<'b>(bench: &'b Bench<'b>) -> Result<Container<'b>> {
    let mapping = json!([{ "containerID": 0, "hostID": BASE, "size": 1000 }]);
    with_mappings(bench, &mapping)
}

fn uid_mappings(bench: &Bench) -> Result<()> {
    let mappings = json!([
        { "containerID": 0, "hostID": BASE, "size": 1000 },
        { "containerID": 2000, "hostID": 300_000, "size": 10 },
    ]);
    let container = with_mappings(bench, &mappings)?;
    let container = container.script(
        "id -u; id -g; for map in uid gid; do
         sed 's/  */ /g; s/^ //' /proc/self/${map}_map; done",
    );
    let maps = "0 100000 1000\n2000 300000 10\n";
    container.prints(&format!("0\n0\n{maps}{maps}"))
}

/// Files have the ids that the mapping says, on either side of it.
fn files(bench: &Bench) -> Result<()> {
    let container = mapped(bench)?.script(
        "stat -c '%u %g' /theirs /others; touch /mine; chown 7:8 /mine
         chown 0:0 /others 2>/dev/null || echo refused",
    );
    for (name, id) in [("/theirs", BASE + 5), ("/others", 0)] {
        fs::write(container.file(name), "")?;
        chown(container.file(name), Some(id), Some(id))?;
    }
    container.prints("5 5\n65534 65534\nrefused")?;
    let made = fs::metadata(container.file("/mine"))?;
    let ids = (made.uid(), made.gid());
    ensure!(ids == (BASE + 7, BASE + 8), "the host has it as {ids:?}'s");
    Ok(())
}

/// A container's root is root in the container alone.
fn capabilities(bench: &Bench) -> Result<()> {
    let container = mapped(bench)?;
    let container = container.script(
        "hostname other && hostname; mount -t tmpfs tmpfs /tmp && echo mounted
         mknod /tmp/device c 1 3 2>/dev/null || echo refused",
    );
    let all = ["CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_DAC_OVERRIDE"];
    let container = container.set(
        "/process/capabilities",
        json!({ "bounding": all, "effective": all, "permitted": all }),
    );
    container.prints("other\nmounted\nrefused")
}

fn invalid(bench: &Bench) -> Result<()> {
    let none = bench
        .container()
        .push("/linux/namespaces", json!({ "type": "user" }));
    none.is_refused("a user namespace without mappings")?;
    let overlapping = json!([
        { "containerID": 0, "hostID": BASE, "size": 10 },
        { "containerID": 5, "hostID": 200_000, "size": 10 },
    ]);
    with_mappings(bench, &overlapping)?.is_refused("mappings that overlap")
}
