//! Namespaces (config-linux.md, "Namespaces").
//!
//! That two of them differ is told by what is in them, not by their numbers: those
//! are unique to a kernel, which may not be the host's.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde_json::json;

use super::Check;
use super::bench::Bench;

pub(super) const CASES: &[(&str, Check)] = &[
    ("linux_ns_nopath", nopath),
    ("linux_ns_path", path),
    ("linux_ns_path_network", path_network),
    ("linux_ns_path_type", path_type),
    ("linux_ns_path_missing", path_missing),
    ("linux_ns_itype", itype),
    ("linux_ns_inherited_uts", inherited_uts),
    ("linux_ns_inherited_pid", inherited_pid),
    ("linux_ns_inherited_network", inherited_network),
    ("linux_ns_inherited_ipc", inherited_ipc),
    ("linux_ns_time_offsets", time_offsets),
    ("linux_sysctl", sysctl),
];

/// What is done in the container does not show on the host, nor the reverse.
fn nopath(bench: &Bench) -> Result<()> {
    const LOOK: &str = "hostname; cat /proc/sys/kernel/msgmax; wc -l </proc/mounts";
    let name = format!("conformance-{}", std::process::id());
    let _socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    let before = bench.on_host(LOOK)?;
    let script = format!(
        "echo $$; ls /sys/class/net; grep -c {name} /proc/net/unix; cat /proc/self/cgroup
         hostname elsewhere; hostname; mount -t tmpfs tmpfs /tmp && echo mounted
         echo 1234 >/proc/sys/kernel/msgmax; cat /proc/sys/kernel/msgmax; sleep 1000"
    );
    let admin = ["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE"];
    let container = bench.container().script(&script).set(
        "/process/capabilities",
        json!({ "bounding": admin, "effective": admin, "permitted": admin }),
    );
    container.create_and_start()?;
    container.wait_for_output("1234")?;
    let printed = container.output()?;
    ensure!(
        printed == "1\nlo\n0\n0::/\nelsewhere\nmounted\n1234\n",
        "it printed {printed:?}"
    );
    let after = bench.on_host(LOOK)?;
    ensure!(before == after, "the host has {after:?}, not {before:?}");
    container.stop()
}

/// A process of the host with namespaces of its own.
struct Holder<'b> {
    bench: &'b Bench<'b>,
    pid: String,
}

impl<'b> Holder<'b> {
    /// Makes one by the options of `unshare`, and prepares them by a script.
    fn new(bench: &'b Bench<'b>, options: &str, preparation: &str) -> Result<Self> {
        let script = format!(
            "unshare {options} sh -ec '{preparation}; echo $$ >pid.new; mv pid.new pid
             exec sleep 1000' >/dev/null 2>&1 &
             for _ in $(seq 100); do test -e pid && break; sleep 0.1; done; cat pid; rm pid"
        );
        let pid = bench.on_host(&script)?.trim().to_owned();
        Ok(Self { bench, pid })
    }

    fn namespace(&self, file: &str) -> PathBuf {
        format!("/proc/{}/ns/{file}", self.pid).into()
    }
}

impl Drop for Holder<'_> {
    fn drop(&mut self) {
        // It sleeps for as long as it is needed.
        let _ = self.bench.on_host(&format!("kill {}", self.pid));
    }
}

fn path(bench: &Bench) -> Result<()> {
    let holder = Holder::new(
        bench,
        "--uts --ipc",
        "hostname held; echo 4321 >/proc/sys/kernel/msgmax",
    )?;
    let mut container = bench
        .container()
        .script("hostname; cat /proc/sys/kernel/msgmax")
        .namespace(json!({ "type": "uts", "path": holder.namespace("uts") }))
        .namespace(json!({ "type": "ipc", "path": holder.namespace("ipc") }));
    if let Some(config) = container.config.as_object_mut() {
        config.remove("hostname");
    }
    container.prints("held\n4321")
}

fn path_network(bench: &Bench) -> Result<()> {
    let preparation = "ip link set lo up; ip link add eth5 type veth peer name eth6
        ip link set eth5 address 02:00:00:00:05:05 up; ip link set eth6 up
        ip addr add 10.90.5.2/24 dev eth5";
    let holder = Holder::new(bench, "--net", preparation)?;
    let container = bench
        .container()
        .script("cat /sys/class/net/eth5/address; ip -o -4 addr show eth5 | awk '{ print $4 }'")
        .namespace(json!({ "type": "network", "path": holder.namespace("net") }));
    container.prints("02:00:00:00:05:05\n10.90.5.2/24")
}

fn path_type(bench: &Bench) -> Result<()> {
    let holder = Holder::new(bench, "--uts --ipc", ":")?;
    let container = bench
        .container()
        .namespace(json!({ "type": "ipc", "path": holder.namespace("uts") }));
    container.is_refused("a path to a namespace of another type")?;
    let file = bench.path().join("file");
    fs::write(&file, "")?;
    let container = bench
        .container()
        .namespace(json!({ "type": "uts", "path": file }));
    container.is_refused("a path to no namespace")
}

fn path_missing(bench: &Bench) -> Result<()> {
    let container = bench
        .container()
        .namespace(json!({ "type": "ipc", "path": bench.path().join("nowhere") }));
    container.is_refused("a path to nothing")
}

fn itype(bench: &Bench) -> Result<()> {
    let unknown = bench.container().namespace(json!({ "type": "nonsense" }));
    unknown.is_refused("an unknown type")?;
    let twice = bench
        .container()
        .push("/linux/namespaces", json!({ "type": "uts" }));
    twice.is_refused("a type that is given twice")
}

fn inherited_uts(bench: &Bench) -> Result<()> {
    let mut container = bench
        .container()
        .script("hostname")
        .without_namespace("uts");
    if let Some(config) = container.config.as_object_mut() {
        config.remove("hostname");
    }
    container.prints(&bench.on_host("hostname")?)
}

fn inherited_pid(bench: &Bench) -> Result<()> {
    let own = std::process::id();
    let container = bench
        .container()
        .script(&format!(
            "tr '\\0' ' ' </proc/{own}/cmdline | grep -o conformance | head -n 1"
        ))
        .without_namespace("pid");
    container.prints("conformance")
}

fn inherited_network(bench: &Bench) -> Result<()> {
    let name = format!("conformance-net-{}", std::process::id());
    let _socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    let container = bench
        .container()
        .script(&format!("grep -o {name} /proc/net/unix | head -n 1"))
        .without_namespace("network");
    container.prints(&name)
}

fn inherited_ipc(bench: &Bench) -> Result<()> {
    let before =
        bench.on_host("cat /proc/sys/kernel/msgmax; echo 5432 >/proc/sys/kernel/msgmax")?;
    let container = bench
        .container()
        .script("cat /proc/sys/kernel/msgmax")
        .without_namespace("ipc");
    let printed = container.prints("5432");
    bench.on_host(&format!("echo {} >/proc/sys/kernel/msgmax", before.trim()))?;
    printed
}

fn time_offsets(bench: &Bench) -> Result<()> {
    let container = bench
        .container()
        .script("awk '{ print ($1 > 1000000) }' /proc/uptime; cat /proc/self/timens_offsets")
        .push("/linux/namespaces", json!({ "type": "time" }))
        .set(
            "/linux/timeOffsets",
            json!({ "boottime": { "secs": 1_000_000 }, "monotonic": { "secs": 2000 } }),
        );
    let printed = container.printed()?;
    let words: Vec<_> = printed.split_whitespace().collect();
    ensure!(
        words == ["1", "monotonic", "2000", "0", "boottime", "1000000", "0"],
        "it printed {printed:?}"
    );
    Ok(())
}

fn sysctl(bench: &Bench) -> Result<()> {
    let before = bench.on_host("cat /proc/sys/kernel/shmmni")?;
    let container = bench
        .container()
        .script("cd /proc/sys; cat net/ipv4/ip_forward kernel/shmmni fs/mqueue/queues_max")
        .set(
            "/linux/sysctl",
            json!({
                "net.ipv4.ip_forward": "1", "kernel.shmmni": "2048", "fs.mqueue.queues_max": "99",
            }),
        );
    container.prints("1\n2048\n99")?;
    let after = bench.on_host("cat /proc/sys/kernel/shmmni")?;
    ensure!(before == after, "the host has {after:?} now");
    let unknown = bench
        .container()
        .set("/linux/sysctl", json!({ "net.ipv4.nonsense": "1" }));
    unknown.is_refused("an unknown setting")
}
