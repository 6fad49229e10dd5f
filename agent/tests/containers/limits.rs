//! Limits of a container's cgroup, and its seccomp filter.

use std::fs;

use bulkhead_protocol::{CreateContainer, ExitStatus, Json, ProcessId, RequestBody, Stdio};
use serde_json::json;

use crate::bundle::Rootfs;

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
