//! What a container sees: root, mounts, devices, namespaces, identity.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use bulkhead_protocol::ExitStatus;
use serde_json::{Value, json};

use crate::bundle::Rootfs;
use crate::client::{Outcome, TestAgent};

fn run(agent: &mut TestAgent, config: &Value) -> Outcome {
    let outcome = agent.run("a", config).unwrap();
    agent.delete("a", false).unwrap();
    outcome
}

fn output(agent: &mut TestAgent, config: &Value) -> String {
    let outcome = run(agent, config);
    assert_eq!(outcome.exit, ExitStatus::Code(0), "{}", outcome.stderr);
    outcome.stdout
}

#[test]
fn processes_see_themselves_alone() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let config = rootfs.shell(
        "echo $$; hostname; cat /proc/self/cgroup; ls /sys/class/net; \
                               ls -d /proc/[0-9]* | wc -l; ls /proc/self/fd | wc -l",
    );
    let text = output(&mut agent, &config);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(&lines[..4], ["1", "box", "0::/", "lo"], "{text}");
    // 0, 1, 2 and the directory itself: nothing of the agent's.
    assert_eq!(lines.last(), Some(&"4"), "{text}");
}

#[test]
fn loopback_is_up_in_a_network_namespace() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    assert_eq!(
        output(&mut agent, &rootfs.shell("cat /sys/class/net/lo/carrier")),
        "1\n"
    );
}

#[test]
fn devices_and_links_are_there_and_work() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let line = "cd /dev; stat -c '%n %t:%T %a' null zero full random urandom tty; \
                readlink fd stdin stdout stderr ptmx; head -c 3 zero | wc -c; echo x > null; \
                head -c 1 urandom | wc -c; stat -c %a pts/ptmx";
    assert_eq!(
        output(&mut agent, &rootfs.shell(line)),
        "null 1:3 666\nzero 1:5 666\nfull 1:7 666\nrandom 1:8 666\nurandom 1:9 666\n\
         tty 5:0 666\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n\
         pts/ptmx\n3\n1\n666\n"
    );
}

#[test]
fn devices_that_are_not_allowed_cannot_be_opened() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell("(: < /dev/mem2); (: < /dev/kmsg2) && echo opened");
    for set in ["bounding", "effective", "permitted"] {
        let set = config["process"]["capabilities"][set]
            .as_array_mut()
            .unwrap();
        set.extend([json!("CAP_SYSLOG"), json!("CAP_SYS_RAWIO")]);
    }
    config["linux"]["devices"] = json!([
        {"type": "c", "path": "/dev/mem2", "major": 1, "minor": 1},
        {"type": "c", "path": "/dev/kmsg2", "major": 1, "minor": 11}]);
    config["linux"]["resources"]["devices"] = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]);
    let outcome = run(&mut agent, &config);
    assert_eq!(outcome.stdout, "opened\n", "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("Operation not permitted"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn paths_are_masked_and_read_only() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    fs::create_dir(rootfs.path().join("secret")).unwrap();
    fs::write(rootfs.path().join("secret/file"), "x").unwrap();
    fs::create_dir(rootfs.path().join("second")).unwrap();
    fs::write(rootfs.path().join("second/file"), "x").unwrap();
    fs::write(rootfs.path().join("hidden"), "x").unwrap();
    fs::create_dir(rootfs.path().join("fixed")).unwrap();
    let mut config = rootfs.shell(
        "ls /secret /second | grep file; cat /hidden; touch /fixed/x; \
                                   touch /secret/x; touch /free && echo fine",
    );
    config["linux"]["maskedPaths"] = json!(["/secret", "/second", "/hidden", "/missing"]);
    config["linux"]["readonlyPaths"] = json!(["/fixed", "/missing"]);
    let outcome = run(&mut agent, &config);
    assert_eq!(outcome.stdout, "fine\n");
    assert_eq!(
        outcome.stderr.matches("Read-only file system").count(),
        2,
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_read_only_root_is_read_only_and_its_mounts_are_not() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell("touch /x; touch /dev/shm/y && echo fine");
    config["root"]["readonly"] = json!(true);
    let outcome = run(&mut agent, &config);
    assert_eq!(outcome.stdout, "fine\n");
    assert!(
        outcome.stderr.contains("Read-only file system"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn files_and_directories_are_bound() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let volume = tempfile::TempDir::new().unwrap();
    fs::write(volume.path().join("file"), "content").unwrap();
    let mut config = rootfs.shell(
        "cat /deep/volume/file /etc/one; echo new > /deep/volume/new; \
                                   echo >> /etc/one; grep -c nosuid,nodev,noexec /proc/self/mounts",
    );
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(
        json!({"destination": "/deep/volume", "type": "bind", "source": volume.path(),
        "options": ["rbind", "rprivate"]}),
    );
    mounts.push(
        json!({"destination": "/etc/one", "source": volume.path().join("file"),
        "options": ["bind", "ro", "nosuid", "nodev", "noexec"]}),
    );
    let outcome = run(&mut agent, &config);
    assert!(
        outcome.stdout.starts_with("contentcontent"),
        "{}",
        outcome.stdout
    );
    assert!(
        outcome.stderr.contains("Read-only file system"),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        fs::read_to_string(volume.path().join("new")).unwrap(),
        "new\n"
    );
}

#[test]
fn links_of_the_image_do_not_lead_out_of_it() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let outside = tempfile::TempDir::new().unwrap();
    symlink(outside.path(), rootfs.path().join("data")).unwrap();
    symlink("/nowhere/yet", rootfs.path().join("dangling")).unwrap();
    let mut config = rootfs.shell("echo x > /data/file && echo y > /dangling/file");
    let mounts = config["mounts"].as_array_mut().unwrap();
    for destination in ["/data", "/dangling"] {
        mounts.push(json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"}));
    }
    assert_eq!(run(&mut agent, &config).exit, ExitStatus::Code(0));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn identity_is_as_configured() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell(
        "id -u; id -G; umask; grep -E 'Cap|NoNewPrivs' /proc/self/status; \
                                   ulimit -n; cat /proc/self/oom_score_adj; pwd; echo $A $HOME",
    );
    let process = &mut config["process"];
    process["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 7], "umask": 0o77});
    process["cwd"] = json!("/made/for/it");
    process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}]);
    process["oomScoreAdj"] = json!(123);
    process["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_KILL"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"]});
    assert_eq!(
        output(&mut agent, &config),
        "1000\n1001 5 7\n0077\nCapInh:\t0000000000000020\nCapPrm:\t0000000000000020\n\
         CapEff:\t0000000000000020\nCapBnd:\t0000000000000021\nCapAmb:\t0000000000000020\n\
         NoNewPrivs:\t1\n77\n123\n/made/for/it\nb /\n"
    );
}

#[test]
fn a_real_time_process_is_one() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    // Its real-time priority and policy, as proc_pid_stat(5) counts fields.
    let mut config = rootfs.shell("cut -d' ' -f40,41 /proc/self/stat");
    config["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 7});
    assert_eq!(output(&mut agent, &config), "7 1\n");
    config["process"]["scheduler"]["priority"] = json!(100);
    let error = agent.run("b", &config).unwrap_err();
    assert!(error.to_string().contains("scheduler"), "{error}");
}

#[test]
fn root_without_capabilities_has_none() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config =
        rootfs.shell("grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status; echo $HOME; ulimit -n");
    config["process"]
        .as_object_mut()
        .unwrap()
        .remove("capabilities");
    assert_eq!(
        output(&mut agent, &config),
        "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n\
         /root\n1024\n"
    );
}

#[test]
fn kernel_parameters_are_set_in_the_namespaces() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start \
                                   /proc/sys/kernel/shmmax /proc/sys/fs/mqueue/msg_max; hostname",
    );
    config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "81",
        "kernel.shmmax": "123456", "fs.mqueue.msg_max": "11"});
    assert_eq!(output(&mut agent, &config), "81\n123456\n11\nbox\n");
    let outside = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    assert_ne!(outside, "81\n");
}

#[test]
fn a_user_namespace_maps_ids() {
    user_namespaces_or_skip!();
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    std::os::unix::fs::chown(rootfs.path(), Some(100_000), Some(100_000)).unwrap();
    let mut config = rootfs.shell(
        "id -u; cat /proc/self/uid_map; echo x > /dev/null; \
                                   touch /mine; mount -t tmpfs x /mnt 2>&1 | grep -c denied",
    );
    let linux = &mut config["linux"];
    linux["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user"}));
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let text = run(&mut agent, &config).stdout;
    let words: Vec<_> = text.split_whitespace().collect();
    assert_eq!(&words[..4], ["0", "0", "100000", "65536"], "{text}");
    assert_eq!(
        fs::metadata(rootfs.path().join("mine")).unwrap().uid(),
        100_000
    );
}

#[test]
fn exec_joins_a_user_namespace() {
    user_namespaces_or_skip!();
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    std::os::unix::fs::chown(rootfs.path(), Some(100_000), Some(100_000)).unwrap();
    let mut config = rootfs.config(&["sleep", "1000"]);
    let linux = &mut config["linux"];
    linux["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user"}));
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    agent.start_container("a", &config, None).unwrap();
    let mut args = crate::bundle::process(&["sh", "-c", "id -u; touch /of-exec"]);
    args["user"] = json!({"uid": 7, "gid": 7});
    rustix::fs::chmod(rootfs.path(), 0o777.into()).unwrap();
    let exec = agent.start_exec("a", "e", &args, None).unwrap();
    let outcome = exec.finish(&mut agent.connection, b"");
    assert_eq!(outcome.stdout, "7\n", "{}", outcome.stderr);
    assert_eq!(
        fs::metadata(rootfs.path().join("of-exec")).unwrap().uid(),
        100_007
    );
}

#[test]
fn namespaces_are_joined_by_path() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let first = rootfs.config(&["sleep", "1000"]);
    agent.start_container("first", &first, None).unwrap();
    let status = agent
        .connection
        .request(bulkhead_protocol::RequestBody::Status {
            container: "first".into(),
        });
    let Ok(bulkhead_protocol::Response::Status(status)) = status else {
        panic!("no status");
    };
    let pid = status.pid;
    let mut config = rootfs.shell("cat /proc/1/comm; hostname; readlink /proc/self/ns/net");
    config.as_object_mut().unwrap().remove("hostname");
    config["linux"]["namespaces"] = json!([
        {"type": "mount"}, {"type": "ipc"},
        {"type": "pid", "path": format!("/proc/{pid}/ns/pid")},
        {"type": "uts", "path": format!("/proc/{pid}/ns/uts")},
        {"type": "network", "path": format!("/proc/{pid}/ns/net")}]);
    let net = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(
        output(&mut agent, &config),
        format!("sleep\nbox\n{}\n", net.display())
    );
}

#[test]
fn clocks_are_shifted_in_a_time_namespace() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell("cut -d. -f1 /proc/uptime");
    config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "time"}));
    config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
    let uptime: u64 = output(&mut agent, &config).trim().parse().unwrap();
    assert!(uptime >= 1_000_000);
}
