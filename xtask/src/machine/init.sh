#!/bin/busybox sh
# The first process of an emulated machine: makes it a host for containers,
# runs the job and says how it ended.
#
# /settings, written by xtask, tells:
#   PORTS   virtio: channels are virtio-serial ports, found by their names
#           serial: they are the second to fourth serial line
#   ROOT    machine: the job sees the files of the machine that runs xtask, and
#           may change its own view of them; packed: it sees /packed alone
#   CGROUPS v2: one hierarchy with all controllers on; v1: one for each controller
# /visible lists the paths that stay visible beneath the file systems mounted over
# the root.

. /settings
root=/root

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

# Prints the device of a channel. The names of virtio-serial ports arrive a
# moment after the driver.
channel() {
    if [ "$PORTS" = serial ]; then
        case $1 in stdout) n=1 ;; stderr) n=2 ;; control) n=3 ;; esac
        stty -F "/dev/ttyS$n" raw -echo 115200
        echo "/dev/ttyS$n"
        return
    fi
    for _ in $(seq 500); do
        for port in /sys/class/virtio-ports/*; do
            if [ "$(cat "$port/name" 2>/dev/null)" = "$1" ]; then
                echo "/dev/${port##*/}"
                return
            fi
        done
        usleep 1000
    done
    echo "init: no channel named $1" >/dev/console
    poweroff -f
}

make_root() {
    if [ "$ROOT" = packed ]; then
        mount --bind /packed $root
        busybox --install -s $root/bin
        return
    fi
    mount -t virtiofs -o ro machine /machine
    mount -t tmpfs -o mode=755 tmpfs /changes
    mkdir /changes/upper /changes/work
    mount -t overlay -o lowerdir=/machine,upperdir=/changes/upper,workdir=/changes/work root $root
}

# A container engine's storage cannot stand on an overlay: it gets file systems
# of its own.
mount_over_root() {
    mkdir /plain
    mount --bind $root /plain
    for folder in proc sys dev run tmp var/lib/bulkhead var/lib/containerd var/lib/containers; do
        mkdir -p $root/$folder
    done
    mount -t proc proc $root/proc
    mount -t sysfs sysfs $root/sys
    mount -t devtmpfs devtmpfs $root/dev
    mkdir -p $root/dev/pts $root/dev/shm
    mount -t devpts -o mode=620,ptmxmode=666 devpts $root/dev/pts
    mount -t tmpfs -o mode=1777 tmpfs $root/dev/shm
    ln -sf /proc/self/fd $root/dev/fd
    mount -t tmpfs -o mode=755 tmpfs $root/run
    mount -t tmpfs -o mode=1777 tmpfs $root/tmp
    for engine in bulkhead containerd containers; do
        mount -t tmpfs -o mode=755 tmpfs $root/var/lib/$engine
    done
    while read -r path; do
        case $path in
        /tmp/* | /run/*)
            [ -e "/plain$path" ] || continue
            if [ -d "/plain$path" ]; then
                mkdir -p "$root$path"
            else
                mkdir -p "$root${path%/*}"
                touch "$root$path"
            fi
            mount --bind "/plain$path" "$root$path"
            ;;
        esac
    done </visible
}

enable_cgroups() {
    if [ "$CGROUPS" = v1 ]; then
        mount -t tmpfs -o mode=755 tmpfs $root/sys/fs/cgroup
        for controller in $(sed -n '/^#/!s/\t.*//p' /proc/cgroups); do
            mkdir $root/sys/fs/cgroup/$controller
            mount -t cgroup -o $controller $controller $root/sys/fs/cgroup/$controller
        done
        return
    fi
    mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
    for controller in $(cat $root/sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" >$root/sys/fs/cgroup/cgroup.subtree_control
    done
}

# Shows what every process does, when xtask asks because the job hangs.
report_on_request() {
    read -r _ <&3
    for process in /proc/[0-9]*; do
        command=$(tr '\0' ' ' <"$process/cmdline")
        [ -n "$command" ] || continue
        echo "process ${process##*/}: $command"
        for task in "$process"/task/*; do
            echo "    thread ${task##*/}, $(sed -n 's/^State:\t//p' "$task/status"), in system call $(cat "$task/syscall")"
        done
    done >/dev/console 2>/dev/null
    echo reported >&3
}

make_root
mount_over_root
enable_cgroups
ip link set lo up
hostname emulated
cp /job $root/run/job
ulimit -Hn 524288

stdout=$(channel stdout)
stderr=$(channel stderr)
exec 3<>"$(channel control)"
echo up >&3
report_on_request &
# The job's root is the root of its mount namespace too, not just a chroot: who
# enters the namespace of a container (`runc exec`) would find the initramfs else.
(
    cd $root && mount --move $root / &&
        exec chroot . /bin/sh /run/job </dev/null >"$stdout" 2>"$stderr" 3<&-
)
code=$?
# Setting up a serial line waits until it has sent what was written.
[ "$PORTS" = serial ] && stty -F "$stdout" raw && stty -F "$stderr" raw
echo "exit $code" >&3
poweroff -f
