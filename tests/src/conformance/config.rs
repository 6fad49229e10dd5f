//! The configuration that every case starts from: what engines commonly ask for, and
//! nothing that one runtime alone would write.

use serde_json::{Value, json};

/// The version that the configuration claims: one that older runtimes take, too, and
/// whose rules are the same.
const VERSION: &str = "1.0.2";

/// What the container's root may do.
const CAPABILITIES: [&str; 10] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A configuration for a container that does nothing.
pub(super) fn default() -> Value {
    json!({
        "ociVersion": VERSION,
        "process": process(),
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "conformance",
        "mounts": mounts(),
        "linux": {
            "namespaces": (["pid", "network", "ipc", "uts", "mount", "cgroup"]
                .map(|kind| json!({ "type": kind }))),
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
        },
    })
}

fn process() -> Value {
    json!({
        "terminal": false,
        "user": { "uid": 0, "gid": 0 },
        "args": ["true"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": {
            "bounding": CAPABILITIES,
            "effective": CAPABILITIES,
            "permitted": CAPABILITIES,
        },
        "noNewPrivileges": true,
    })
}

fn mounts() -> Value {
    let mount = |destination, kind, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let safe = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| [&safe, more].concat();
    json!([
        mount("/proc", "proc", &safe),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"]
        ),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620"
            ]
        ),
        mount("/dev/shm", "tmpfs", &with(&["mode=1777", "size=65536k"])),
        mount("/dev/mqueue", "mqueue", &safe),
        mount("/sys", "sysfs", &with(&["ro"])),
        mount("/sys/fs/cgroup", "cgroup", &with(&["relatime", "ro"])),
    ])
}
