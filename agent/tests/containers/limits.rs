//! Limits of a container's cgroup, and its seccomp filter.

use std::fs;

use bulkhead_protocol::{CreateContainer, ExitStatus, Json, ProcessId, RequestBody, Stdio};
use serde_json::{Value, json};

use crate::bundle::{Rootfs, make_cgroup_writable};
use crate::client::TestAgent;

fn output(agent: &mut TestAgent, id: &str, config: &Value) -> String {
    let outcome = agent.run(id, config).unwrap();
    assert_eq!(outcome.exit, ExitStatus::Code(0), "{}", outcome.stderr);
    outcome.stdout
}

#[test]
fn limits_are_in_the_cgroup() {
    controllers_or_skip!();
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell(
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max \
                                   /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu.weight",
    );
    config["linux"]["resources"] = json!({
        "memory": {"limit": 104_857_600, "swap": 104_857_600},
        "pids": {"limit": 100}, "cpu": {"quota": 50000, "period": 100_000, "shares": 1024},
        "blockIO": {"weight": 100}});
    let outcome = agent.run("a", &config).unwrap();
    assert_eq!(
        outcome.stdout, "104857600\n100\n50000 100000\n100\n",
        "{}",
        outcome.stderr
    );
}

#[test]
fn too_much_memory_is_too_much() {
    controllers_or_skip!();
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.config(&["sh", "-c", "head -c 60000000 /dev/zero | tail | wc -c"]);
    config["linux"]["resources"]["memory"] = json!({"limit": 16_777_216});
    let outcome = agent.run("a", &config).unwrap();
    assert_eq!(outcome.stdout.trim(), "0", "{}", outcome.stderr);
    let events = fs::read_to_string(agent.cgroup().join("a/memory.events")).unwrap();
    assert!(events.contains("oom_kill 1"), "{events}");
}

#[test]
fn a_limit_that_cannot_be_set_is_named() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell("true");
    config["linux"]["resources"]["unified"] = json!({"no.such.file": "1"});
    let error = agent.run("a", &config).unwrap_err();
    assert!(error.message.contains("no.such.file"), "{error}");
    assert!(!agent.cgroup().join("a").exists());
}

#[test]
fn limits_of_hardware_that_is_not_there_are_no_failure() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell("exit 7");
    config["linux"]["resources"] = json!({
        "cpu": {"cpus": "1000", "mems": "1000"},
        "hugepageLimits": [{"pageSize": "3MB", "limit": 0}]});
    let outcome = agent.run("a", &config).unwrap();
    assert_eq!(outcome.exit, ExitStatus::Code(7));
}

#[test]
fn controllers_are_those_that_are_asked_for() {
    controllers_or_skip!();
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell("cat /sys/fs/cgroup/cgroup.controllers");
    let usual = output(&mut agent, "usual", &config);
    assert_eq!(usual, "cpuset cpu io memory pids\n");
    config["linux"]["resources"]["hugepageLimits"] = json!([{"pageSize": "2MB", "limit": 0}]);
    let limited = output(&mut agent, "limited", &config);
    assert!(limited.contains("hugetlb"), "{limited}");
    make_cgroup_writable(&mut config);
    let all = fs::read_to_string(agent.cgroup().join("cgroup.controllers")).unwrap();
    assert_eq!(output(&mut agent, "managing", &config), all);
}

#[test]
fn a_user_manages_the_cgroup_that_it_may_write_to() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell(
        "cd /sys/fs/cgroup; mkdir sub && echo 0 > sub/cgroup.procs && cat /proc/self/cgroup; \
         echo 1 > pids.max; stat -c %u . cgroup.subtree_control memory.max",
    );
    config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    make_cgroup_writable(&mut config);
    let outcome = agent.run("a", &config).unwrap();
    assert!(
        outcome.stdout.starts_with("0::/sub\n1000\n1000\n"),
        "{outcome:?}"
    );
    // Its limits are not its own.
    assert!(outcome.stderr.contains("Permission denied"), "{outcome:?}");
    agent.delete("a", false).unwrap();
    assert!(!agent.cgroup().join("a").exists());
}

/// `struct sock_filter` instructions that answer `getppid` with EPERM.
fn filter() -> Vec<u8> {
    const GETPPID: u32 = 110;
    let instruction = |code: u16, jt: u8, jf: u8, k: u32| {
        let mut bytes = code.to_le_bytes().to_vec();
        bytes.extend([jt, jf]);
        bytes.extend(k.to_le_bytes());
        bytes
    };
    [
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 0, 1, GETPPID),
        instruction(0x06, 0, 0, 0x0005_0001),
        instruction(0x06, 0, 0, 0x7fff_0000),
    ]
    .concat()
}

#[test]
fn seccomp_filter_is_in_force_with_and_without_no_new_privileges() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    for (id, no_new_privileges) in [("a", false), ("b", true)] {
        let mut config = rootfs.shell("grep -E 'Seccomp:|NoNewPrivs' /proc/self/status");
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let (port, listener) = agent.listen();
        let create = agent
            .connection
            .send(RequestBody::Create(Box::new(CreateContainer {
                container: id.into(),
                spec: Json::new(&config).unwrap(),
                seccomp_filter: Some(filter()),
                stdio: Stdio {
                    port,
                    stdin: false,
                    stdout: true,
                    stderr: false,
                    terminal: None,
                },
            })));
        let start = agent.connection.send(RequestBody::Start {
            container: id.into(),
        });
        agent.connection.receive(create).unwrap();
        agent.connection.receive(start).unwrap();
        let (mut stdout, _) = listener.accept().unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
        let expected = format!(
            "\u{1}NoNewPrivs:\t{}\nSeccomp:\t2\n",
            u8::from(no_new_privileges)
        );
        assert_eq!(text, expected);
        let name = ProcessId {
            container: id.into(),
            exec: None,
        };
        assert_eq!(agent.connection.wait(name), ExitStatus::Code(0));
    }
}
