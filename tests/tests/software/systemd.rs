//! A whole system.

use bulkhead_tests::World;
use serde_json::{Value, json};

use crate::Machine;

/// What a system may do whose kernel is its own.
const CAPABILITIES: [&str; 30] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BPF",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_NICE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TTY_CONFIG",
];

/// Starts systemd, which is to be patient with units on emulated hosts.
const INIT: &str = "exec /sbin/init systemd.default_timeout_start_sec=300";

/// A container as engines make them for systemd.
fn system(world: &World) -> Machine<'_> {
    Machine::new(world, "root", INIT)
        .with_capabilities(&CAPABILITIES)
        .set("/process/noNewPrivileges", json!(false))
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .with_writable("/sys/fs/cgroup")
        .push("/process/env", json!("container=oci"))
        .push("/mounts", tmpfs("/run", "mode=755"))
        .push("/mounts", tmpfs("/tmp", "mode=1777"))
}

fn tmpfs(destination: &str, mode: &str) -> Value {
    json!({
        "destination": destination,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "nodev", mode],
    })
}

#[test]
fn systemd_boots_and_shuts_down() {
    let world = World::new();
    let machine = system(&world);
    machine.start();
    machine.wait_for("systemctl is-system-running --wait | grep -E 'running|degraded'");
    let failed = machine.run("systemctl list-units --failed --plain --no-legend");
    assert_eq!(failed, "", "units that failed");
    machine
        .run("wget -qO /dev/null http://localhost/ && redis-cli ping && etcdctl endpoint health");
    machine.end("RTMIN+3");
}
