//! The root file system, and what the container is called.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;

use super::Check;
use super::bench::Bench;

pub(super) const CASES: &[(&str, Check)] = &[
    ("root_path_absolute", root_path_absolute),
    ("root_readonly_true", root_readonly_true),
    ("root_readonly_false", root_readonly_false),
    ("linux_rootfs_propagation_shared", |bench| {
        propagates(bench, "shared", "shared:")
    }),
    ("linux_rootfs_propagation_private", |bench| {
        propagates(bench, "private", "")
    }),
    ("linux_rootfs_propagation_slave", |bench| {
        propagates(bench, "slave", "")
    }),
    ("linux_rootfs_propagation_unbindable", |bench| {
        propagates(bench, "unbindable", "unbindable")
    }),
    ("linux_rootfs_propagation_invalid", propagation_invalid),
    ("hostname", hostname),
    ("domainname", domainname),
];

fn root_path_absolute(bench: &Bench) -> Result<()> {
    let container = bench.container().script("cat /mark");
    fs::write(container.file("/mark"), "here")?;
    let root = container.file("/");
    container.set("/root/path", json!(root)).prints("here")
}

fn root_readonly_true(bench: &Bench) -> Result<()> {
    let container = bench.container();
    let script = "touch /made 2>/dev/null || echo refused; touch /dev/made && echo writable";
    let container = container.script(script).set("/root/readonly", json!(true));
    container.prints("refused\nwritable")?;
    ensure!(!container.file("/made").exists(), "a file has been made");
    Ok(())
}

fn root_readonly_false(bench: &Bench) -> Result<()> {
    let container = bench.container().script("echo written >/made");
    container.prints("")?;
    let written = fs::read_to_string(container.file("/made"))?;
    ensure!(written == "written\n", "the file has {written:?}");
    Ok(())
}

/// The root's optional fields in `mountinfo` begin with `expected`.
fn propagates(bench: &Bench, propagation: &str, expected: &str) -> Result<()> {
    let script = "awk '$5 == \"/\" { for (i = 7; $i != \"-\"; i++) printf \"%s \", $i }' \
                  /proc/self/mountinfo";
    let container = bench.container().script(script);
    let container = container.set("/linux/rootfsPropagation", json!(propagation));
    let fields = container.printed()?;
    let fields = fields.trim();
    ensure!(
        fields.starts_with(expected) && fields.is_empty() == expected.is_empty(),
        "the root is {fields:?}, not {propagation}"
    );
    Ok(())
}

fn propagation_invalid(bench: &Bench) -> Result<()> {
    let container = bench.container();
    let container = container.set("/linux/rootfsPropagation", json!("sideways"));
    container.is_refused("an unknown propagation")
}

fn hostname(bench: &Bench) -> Result<()> {
    let before = bench.on_host("hostname")?;
    let container = bench
        .container()
        .script("hostname; cat /proc/sys/kernel/hostname");
    let container = container.set("/hostname", json!("some-name.example"));
    container.prints("some-name.example\nsome-name.example")?;
    let after = bench.on_host("hostname")?;
    ensure!(before == after, "the host is called {after:?} now");
    Ok(())
}

fn domainname(bench: &Bench) -> Result<()> {
    let container = bench.container().script("cat /proc/sys/kernel/domainname");
    let container = container.set("/domainname", json!("some-domain.example"));
    container.prints("some-domain.example")
}
