//! Configurations, and root file systems made of the machine's own programs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A root file system, empty but for mount points: the machine's programs are
/// bound into it.
pub(crate) struct Rootfs(TempDir);

impl Rootfs {
    pub(crate) fn new() -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(
            root.path().join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\n",
        )
        .unwrap();
        rustix::fs::chmod(root.path(), 0o755.into()).unwrap();
        Self(root)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A configuration much as an engine writes it.
    pub(crate) fn config(&self, args: &[&str]) -> Value {
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
            json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options":
                ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
            json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}),
            json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"]}),
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"]}),
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}),
        ];
        mounts.extend(programs().into_iter().map(|path| {
            json!({"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]})
        }));
        json!({
            "ociVersion": "1.2.0",
            "root": {"path": self.path()},
            "hostname": "box",
            "process": process(args),
            "mounts": mounts,
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"},
                    {"type": "uts"}, {"type": "network"}, {"type": "cgroup"}],
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware",
                    "/proc/no-such-file"],
                "readonlyPaths": ["/proc/bus", "/proc/sys", "/proc/no-such-file"],
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            },
        })
    }

    /// The same, for a line of shell.
    pub(crate) fn shell(&self, line: &str) -> Value {
        self.config(&["sh", "-c", line])
    }
}

/// Lets a container manage its own cgroup.
pub(crate) fn make_cgroup_writable(config: &mut Value) {
    let mounts = config["mounts"].as_array_mut().unwrap();
    for mount in mounts.iter_mut().filter(|mount| mount["type"] == "cgroup") {
        mount["options"] = json!(["nosuid"]);
    }
}

/// A `process` with an engine's default capabilities.
pub(crate) fn process(args: &[&str]) -> Value {
    let capabilities = [
        "CAP_CHOWN",
        "CAP_KILL",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
    ];
    json!({
        "args": args,
        "cwd": "/",
        "env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "A=b"],
        "user": {"uid": 0, "gid": 0},
        "capabilities": {"bounding": capabilities, "effective": capabilities,
            "permitted": capabilities},
        "noNewPrivileges": true,
    })
}

/// Where the machine keeps programs and libraries; some are links to others.
fn programs() -> Vec<PathBuf> {
    ["/usr", "/bin", "/sbin", "/lib", "/lib64"]
        .map(PathBuf::from)
        .into_iter()
        .filter(|p| p.exists())
        .collect()
}
