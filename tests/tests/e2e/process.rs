//! What the configuration promises the container's process.

use bulkhead_tests::World;
use serde_json::json;

#[test]
fn identity_environment_and_place() {
    let world = World::new();
    let outcome = world
        .bundle()
        .shell("id -u; id -g; id -G; pwd; echo $GREETING; umask; hostname")
        .set(
            "/process/user",
            json!({ "uid": 7, "gid": 8, "additionalGids": [9, 10], "umask": 0o027 }),
        )
        .set("/process/cwd", json!("/tmp"))
        .set("/process/env", json!(["PATH=/bin", "GREETING=hello"]))
        .set("/hostname", json!("cabin"))
        .run()
        .expect_code(0);
    assert_eq!(outcome.stdout, "7\n8\n8 9 10\n/tmp\nhello\n0027\ncabin\n");
}

#[test]
fn capabilities_are_those_of_the_configuration() {
    let world = World::new();
    let sets = json!({
        "bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"],
        "permitted": ["CAP_KILL"], "inheritable": [], "ambient": [],
    });
    let outcome = world
        .bundle()
        .shell("grep -E 'Cap(Bnd|Eff|Prm)|NoNewPrivs' /proc/self/status")
        .set("/process/capabilities", sets)
        .run()
        .expect_code(0);
    // CAP_CHOWN is bit 0, CAP_KILL bit 5. Root's exec regains the bounding set.
    assert!(
        outcome.stdout.contains("CapBnd:\t0000000000000021"),
        "{outcome:#?}"
    );
    assert!(outcome.stdout.contains("NoNewPrivs:\t1"), "{outcome:#?}");
}

#[test]
fn limits_and_sysctls_are_set() {
    let world = World::new();
    let outcome = world
        .bundle()
        .shell("ulimit -n; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced")
        .set(
            "/process/rlimits",
            json!([{ "type": "RLIMIT_NOFILE", "soft": 123, "hard": 456 }]),
        )
        .set(
            "/linux/sysctl",
            json!({ "net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1" }),
        )
        .run()
        .expect_code(0);
    assert_eq!(outcome.stdout, "123\n1\n1\n");
}

#[test]
fn scheduling_is_that_of_the_configuration_for_init_and_exec() {
    let world = World::new();
    // Nice value and policy, as proc_pid_stat(5) counts fields.
    let look = "cut -d' ' -f19,41 /proc/self/stat; ionice";
    let bundle = world
        .bundle()
        .shell("sleep 1000")
        .set(
            "/process/scheduler",
            json!({ "policy": "SCHED_BATCH", "nice": 5 }),
        )
        .set(
            "/process/ioPriority",
            json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 }),
        );
    bundle.create("test");
    let _ = world.run(["start", "test"]).expect_code(0);
    let outcome = world
        .run(["exec", "test", "/bin/sh", "-c", look])
        .expect_code(0);
    assert_eq!(outcome.stdout, "5 3\nbest-effort: prio 6\n");
    let _ = world.run(["delete", "--force", "test"]).expect_code(0);
    let outcome = bundle.shell(look).run().expect_code(0);
    assert_eq!(outcome.stdout, "5 3\nbest-effort: prio 6\n");
}

/// What a host's kernel may have been told to allow.
#[test]
fn more_descriptors_may_be_allowed_than_the_guest_s_kernel_does_by_itself() {
    let world = World::new();
    let limits = json!([{ "type": "RLIMIT_NOFILE", "soft": 2_000_000, "hard": 3_000_000 }]);
    let outcome = world
        .bundle()
        .shell("ulimit -Sn; ulimit -Hn")
        .set("/process/rlimits", limits)
        .run()
        .expect_code(0);
    assert_eq!(outcome.stdout, "2000000\n3000000\n");
}

#[test]
fn limits_of_hardware_that_the_guest_lacks_are_no_failure() {
    let world = World::new();
    let resources = json!({
        "cpu": { "cpus": "63", "mems": "7" },
        "hugepageLimits": [{ "pageSize": "1GB", "limit": 0 }, { "pageSize": "16GB", "limit": 0 }],
    });
    let outcome = world
        .bundle()
        .shell("nproc")
        .set("/linux/resources", resources)
        .run()
        .expect_code(0);
    assert_eq!(outcome.stdout, "1\n");
}

#[test]
fn namespaces_show_only_the_container() {
    let world = World::new();
    let outcome = world
        .bundle()
        .shell("echo $$; ls /sys/class/net; ps -o pid= | wc -l")
        .run()
        .expect_code(0);
    let lines: Vec<_> = outcome.stdout.lines().map(str::trim).collect();
    assert_eq!(lines[0], "1");
    assert!(lines.contains(&"lo"), "{outcome:#?}");
}

/// Not there until a container has them.
#[test]
fn the_guest_s_own_network_and_shared_memory_can_be_had() {
    let world = World::new();
    let mut bundle = world
        .bundle()
        .shell("cat /sys/class/net/lo/carrier; touch /guest/x; grep -o ' /guest tmpfs ' /proc/mounts")
        .push(
            "/mounts",
            json!({ "type": "bind", "source": "/dev/shm", "destination": "/guest", "options": ["bind"] }),
        );
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "network");
    let outcome = bundle.run().expect_code(0);
    assert_eq!(outcome.stdout, "1\n /guest tmpfs \n");
}

#[test]
fn masked_and_read_only_paths() {
    let world = World::new();
    let outcome = world
        .bundle()
        .shell("wc -c < /proc/timer_list; ! echo 1 > /proc/sys/kernel/pid_max")
        .set(
            "/linux/maskedPaths",
            json!(["/proc/timer_list", "/proc/no-such-file"]),
        )
        .set("/linux/readonlyPaths", json!(["/proc/sys"]))
        .run()
        .expect_code(0);
    assert_eq!(outcome.stdout, "0\n");
}

#[test]
fn resources_are_limits_in_the_guest() {
    let world = World::new();
    let resources = json!({
        "memory": { "limit": 33_554_432 }, "pids": { "limit": 55 },
        "cpu": { "quota": 50_000, "period": 100_000, "shares": 512 },
    });
    let outcome = world
        .bundle()
        .shell("cd /sys/fs/cgroup && cat memory.max pids.max cpu.max")
        .push(
            "/mounts",
            json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" }),
        )
        .set("/linux/resources", resources)
        .run()
        .expect_code(0);
    assert_eq!(outcome.stdout, "33554432\n55\n50000 100000\n");
}

#[test]
fn memory_beyond_the_limit_is_a_kill_and_not_the_end_of_the_guest() {
    let world = World::new();
    let outcome = world
        .bundle()
        .shell("tail /dev/zero; echo code $?")
        .set(
            "/linux/resources",
            json!({ "memory": { "limit": 16_777_216 } }),
        )
        .run()
        .expect_code(0);
    assert_eq!(outcome.stdout, "code 137\n");
}

#[test]
fn devices_are_those_that_are_allowed() {
    let world = World::new();
    let device = |path: &str, minor: u32| json!({ "path": path, "type": "c", "major": 1, "minor": minor, "fileMode": 0o666, "uid": 0, "gid": 0 });
    let outcome = world
        .bundle()
        .shell("head -c 3 /dev/zero | wc -c; head -c 1 /dev/mykmsg")
        .set("/linux/devices", json!([device("/dev/mykmsg", 11)]))
        .set(
            "/linux/resources",
            json!({ "devices": [{ "allow": false, "access": "rwm" }] }),
        )
        .run();
    assert_eq!(outcome.stdout.trim(), "3");
    assert!(
        outcome.stderr.contains("Operation not permitted"),
        "{outcome:#?}"
    );
}

#[test]
fn seccomp_profile_is_enforced() {
    let world = World::new();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122 }],
    });
    let outcome = world
        .bundle()
        .shell("mkdir /tmp/x; grep Seccomp: /proc/self/status")
        .set("/linux/seccomp", profile)
        .run()
        .expect_code(0);
    // 122 is EDQUOT.
    assert!(outcome.stderr.contains("quota exceeded"), "{outcome:#?}");
    assert!(outcome.stdout.contains("Seccomp:\t2"), "{outcome:#?}");
}

#[test]
fn user_namespace_maps_ids() {
    let world = World::new();
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 1000 }]);
    let bundle = world
        .bundle()
        .shell("cat /proc/self/uid_map; id -u")
        .push("/linux/namespaces", json!({ "type": "user" }))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    let outcome = bundle.run().expect_code(0);
    let fields: Vec<_> = outcome.stdout.split_whitespace().collect();
    assert_eq!(fields, ["0", "1000", "1000", "0"]);
}
