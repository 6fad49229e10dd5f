//! Devices (config-linux.md, "Devices", "Default Devices").

use anyhow::Result;
use serde_json::{Value, json};

use super::Check;
use super::bench::Bench;
use super::container::Container;

pub(super) const CASES: &[(&str, Check)] = &[
    ("linux_devices_default", default_devices),
    ("linux_devices", devices),
    ("linux_devices_block", block),
    ("linux_devices_invalid", invalid),
    ("linux_cgroups_devices", |bench| {
        access(bench, &bench.cgroup())
    }),
    ("linux_cgroups_relative_devices", |bench| {
        access(bench, bench.cgroup().trim_start_matches('/'))
    }),
];

fn default_devices(bench: &Bench) -> Result<()> {
    let script = "for name in null zero full random urandom tty; do
            test -c /dev/$name && stat -c '%n %t:%T' /dev/$name; done
        for name in fd stdin stdout stderr ptmx; do readlink /dev/$name; done
        head -c 2 /dev/zero | od -An -tx1; echo x >/dev/null && echo fine
        head -c 16 /dev/urandom | wc -c; echo x 2>/dev/null >/dev/full || echo full";
    let container = bench.container().script(script);
    let devices = "/dev/null 1:3\n/dev/zero 1:5\n/dev/full 1:7\n/dev/random 1:8\n\
                   /dev/urandom 1:9\n/dev/tty 5:0";
    let links = "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx";
    container.prints(&format!("{devices}\n{links}\n 00 00\nfine\n16\nfull"))
}

fn device(path: &str, kind: &str, (major, minor): (u32, u32)) -> Value {
    json!({
        "path": path, "type": kind, "major": major, "minor": minor,
        "fileMode": 0o640, "uid": 12, "gid": 34,
    })
}

fn with_devices<'b>(bench: &'b Bench<'b>, devices: &[Value]) -> Container<'b> {
    let names: Vec<_> = devices.iter().filter_map(|d| d["path"].as_str()).collect();
    let script = format!("stat -c '%F %t:%T %a %u %g' {}", names.join(" "));
    let container = bench.container().script(&script);
    container.set("/linux/devices", devices.into())
}

fn devices(bench: &Bench) -> Result<()> {
    let devices = [
        device("/dev/another-zero", "c", (1, 5)),
        device("/dev/deep/below/full", "u", (1, 7)),
        device("/dev/pipe", "p", (0, 0)),
    ];
    with_devices(bench, &devices).prints(
        "character special file 1:5 640 12 34\n\
         character special file 1:7 640 12 34\n\
         fifo 0:0 640 12 34",
    )
}

fn block(bench: &Bench) -> Result<()> {
    let devices = [device("/dev/disk", "b", (7, 0))];
    with_devices(bench, &devices).prints("block special file 7:0 640 12 34")
}

fn invalid(bench: &Bench) -> Result<()> {
    let devices = [device("/dev/what", "x", (1, 5))];
    with_devices(bench, &devices).is_refused("an unknown type")
}

/// Who may use a device is told by the last rule that is about it.
fn access(bench: &Bench, cgroup: &str) -> Result<()> {
    let script = "exec 2>/dev/null
        mknod /tmp/fuse c 10 229 && echo made
        (: </tmp/fuse) && echo opened; (: <>/tmp/fuse) || echo refused
        mknod /tmp/kmsg c 1 11 && echo made; (: >/tmp/kmsg) || echo refused";
    let rules = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rm" },
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "m" },
    ]);
    let container = bench.container().script(script);
    let container = container
        .set("/linux/cgroupsPath", json!(cgroup))
        .set("/linux/resources/devices", rules);
    container.prints("made\nopened\nrefused\nmade\nrefused")
}
