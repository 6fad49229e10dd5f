//! Container engines whose runtime is Bulkhead, with storage of their own.
//!
//! Engines leave mounts, daemons, bridges and cgroups behind as they go about: each
//! test is one shell script in namespaces of its own, which a prelude makes a host
//! for the engine, and whose end takes everything with it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bundle::make_rootfs;
use crate::outcome::Outcome;
use crate::world::{World, binary, quoted};

/// What `podman` is in a script: one with its own storage, and our runtime.
const PODMAN: &str = r#"
printf '[network]\nnetwork_backend = "netavark"\n' >"$T/containers.conf"
export CONTAINERS_CONF="$T/containers.conf"
podman() {
    command podman --root "$T/storage" --runroot "$T/run" --tmpdir "$T/tmp" \
        --storage-driver "${DRIVER:-overlay}" --cgroup-manager cgroupfs \
        --runtime "${RUNTIME:-$BULKHEAD}" "$@"
}
end() {
    podman rm --all --force --time 0 >/dev/null 2>&1
    podman network prune --force >/dev/null 2>&1
    # The process by which a user's podman keeps its namespaces.
    find "$T" "${XDG_RUNTIME_DIR:-$T}" -name pause.pid -exec cat {} + | xargs -r kill
    cd /sys/fs/cgroup && find libpod_parent podman_probe -depth -type d -exec rmdir {} + 2>/dev/null
}
trap end EXIT
podman import --quiet "$T/image.tar" image >/dev/null 2>&1 || echo "no image"
"#;

/// The same for a user other than root, who has access to KVM, and to the runtime wherever
/// it is. Files of the system are changed for this namespace alone.
const USER: &str = r#"
sed '/^alice:/d' /etc/passwd >"$T/passwd"; echo "alice:x:1999:1999::$T/home:/bin/sh" >>"$T/passwd"
sed '/^alice:/d' /etc/group >"$T/group"; echo "alice:x:1999:" >>"$T/group"
echo "alice:100000:65536" >"$T/subids"
for file in passwd group; do mount --bind "$T/$file" "/etc/$file"; done
for file in subuid subgid; do touch "/etc/$file"; mount --bind "$T/subids" "/etc/$file"; done
for device in kvm:10:232 net/tun:10:200; do
    path=${device%%:*}; numbers=${device#*:}; node="$T/$(basename "$path")"
    mknod -m 666 "$node" c "${numbers%:*}" "${numbers#*:}" && mount --bind "$node" "/dev/$path"
done
mkdir "$T/dist"; mount --bind "$(dirname "$BULKHEAD")" "$T/dist"
export BULKHEAD="$T/dist/bulkhead"
mkdir "$T/home" "$T/xdg"; chmod 711 "$T"; chown 1999:1999 "$T/home" "$T/xdg"
"#;

/// `dockerd` and its `containerd`, and `docker` and `ctr` that talk to them.
const DOCKER: &str = r#"
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir "$T/c" "$T/d" "$T/tmp"
containerd --root "$T/c/root" --state "$T/c/state" --address "$T/c/sock" >"$T/c/log" 2>&1 &
daemons=$!
dockerd --data-root "$T/d/root" --exec-root "$T/d/exec" --pidfile "$T/d/pid" \
    --host "unix://$T/d/sock" --containerd "$T/c/sock" --storage-driver overlay2 \
    --userland-proxy=false --add-runtime "bulkhead=$BULKHEAD" \
    >"$T/d/log" 2>&1 &
daemons="$! $daemons"
docker() { command docker --host "unix://$T/d/sock" "$@"; }
ctr() { command ctr --address "$T/c/sock" "$@"; }
end() {
    docker ps --all --quiet | xargs -r command docker --host "unix://$T/d/sock" rm -f >/dev/null 2>&1
    for daemon in $daemons; do kill "$daemon"; wait "$daemon"; done
    for group in docker default; do
        find "/sys/fs/cgroup/$group" -depth -type d -exec rmdir {} + 2>/dev/null
    done
}
trap end EXIT
for _ in $(seq 300); do docker version >/dev/null 2>&1 && break; sleep 0.1; done
docker import "$T/image.tar" image >/dev/null || tail "$T/d/log"
"#;

/// An engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// `podman`, as root.
    Podman,
    /// `podman`, as a user without any privileges: the script runs as that user.
    RootlessPodman,
    /// `docker` and `ctr`, each with a daemon of its own.
    Docker,
}

impl World {
    /// Runs a shell script in which the engine is there, and has an image named
    /// `image`: busybox. `$T` is a directory for the script's use, `$BULKHEAD` the
    /// runtime.
    ///
    /// # Panics
    /// If the image cannot be made.
    pub fn run_with(&self, engine: Engine, script: &str) -> Outcome {
        let rootfs = self.path().join("image");
        make_rootfs(&rootfs);
        self.make_image(&rootfs);
        let (before, prelude) = match engine {
            Engine::Podman => ("", PODMAN),
            Engine::RootlessPodman => (USER, PODMAN),
            Engine::Docker => ("", DOCKER),
        };
        let script_file = self.path().join("script");
        fs::write(&script_file, format!("{prelude}\n{script}")).expect("writable");
        let run = match engine {
            Engine::RootlessPodman => {
                "export HOME=$T/home XDG_RUNTIME_DIR=$T/xdg DRIVER=vfs; cp \"$T/image.tar\" \"$T/home\"; \
                 T=$T/home exec setpriv --reuid 1999 --regid 1999 --init-groups timeout 280 sh $T/script"
            }
            _ => "timeout 280 sh $T/script",
        };
        let environment = format!(
            "export T='{}' BULKHEAD='{}'; cd /",
            self.path().display(),
            binary().display()
        );
        // A network, too, in which bridges and filters are nobody else's.
        let mut command = Command::new("unshare");
        let script = format!("ip link set lo up; {environment}; {before}\n{run}");
        command.args(["--mount", "--net", "sh", "-c", &script]);
        Outcome::of(self.tagged(&mut command))
    }

    fn make_image(&self, rootfs: &Path) {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(rootfs).arg("-cf");
        tar.arg(self.path().join("image.tar")).arg(".");
        let line = quoted(&tar);
        assert!(tar.status().is_ok_and(|status| status.success()), "{line}");
    }
}
