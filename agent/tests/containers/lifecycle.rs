//! States, signals, deletion.

use std::fs;

use bulkhead_protocol::{
    ContainerState, ContainerStatus, CreateContainer, ErrorKind, ExitStatus, Json, ProcessId,
    RequestBody, Response, Stdio,
};
use serde_json::Value;

use crate::bundle::{Rootfs, make_cgroup_writable, process};
use crate::client::TestAgent;

fn init(container: &str) -> ProcessId {
    ProcessId {
        container: container.into(),
        exec: None,
    }
}

fn status(agent: &mut TestAgent, container: &str) -> ContainerStatus {
    let container = container.into();
    match agent.connection.request(RequestBody::Status { container }) {
        Ok(Response::Status(status)) => status,
        other => panic!("unexpected answer: {other:?}"),
    }
}

fn signal(agent: &mut TestAgent, process: ProcessId, signal: u8, all: bool) -> Response {
    let body = RequestBody::Signal {
        process,
        signal,
        all,
    };
    agent.connection.request(body).unwrap()
}

fn create(agent: &mut TestAgent, id: &str, config: &Value) -> u64 {
    agent
        .connection
        .send(RequestBody::Create(Box::new(CreateContainer {
            container: id.into(),
            spec: Json::new(config).unwrap(),
            seccomp_filter: None,
            stdio: Stdio {
                port: 0,
                stdin: false,
                stdout: false,
                stderr: false,
                terminal: None,
            },
        })))
}

#[test]
fn states_follow_each_other() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let created = create(&mut agent, "a", &rootfs.config(&["sleep", "1000"]));
    let Ok(Response::Created { pid }) = agent.connection.receive(created) else {
        panic!("not created");
    };
    assert!(fs::exists(format!("/proc/{pid}")).unwrap());
    assert_eq!(status(&mut agent, "a").state, ContainerState::Created);
    let refused = agent.delete("a", false).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidState);

    let container = "a".to_owned();
    agent
        .connection
        .request(RequestBody::Start { container })
        .unwrap();
    let running = status(&mut agent, "a");
    assert_eq!(
        (running.state, running.pid, running.exit),
        (ContainerState::Running, pid, None)
    );

    signal(&mut agent, init("a"), 9, false);
    assert_eq!(agent.connection.wait(init("a")), ExitStatus::Signal(9));
    let stopped = status(&mut agent, "a");
    assert_eq!(stopped.state, ContainerState::Stopped);
    assert_eq!(stopped.exit, Some(ExitStatus::Signal(9)));
    // As often as asked.
    assert_eq!(agent.connection.wait(init("a")), ExitStatus::Signal(9));

    agent.delete("a", false).unwrap();
    let container = "a".to_owned();
    let unknown = agent
        .connection
        .request(RequestBody::Status { container })
        .unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::NotFound);
    assert!(!agent.cgroup().join("a").exists());
}

#[test]
fn create_start_and_wait_may_all_be_sent_at_once() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let created = create(&mut agent, "a", &rootfs.shell("exit 3"));
    let container = "a".to_owned();
    let started = agent.connection.send(RequestBody::Start { container });
    let exited = agent
        .connection
        .send(RequestBody::Wait { process: init("a") });
    let exit = agent.connection.receive(exited);
    assert!(
        matches!(exit, Ok(Response::Exited(ExitStatus::Code(3)))),
        "{exit:?}"
    );
    assert!(matches!(
        agent.connection.receive(created),
        Ok(Response::Created { .. })
    ));
    assert!(matches!(
        agent.connection.receive(started),
        Ok(Response::Started { .. })
    ));
}

#[test]
fn signals_are_delivered_and_told() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let config = rootfs.shell("trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done");
    let mut started = agent.start_container("a", &config, None).unwrap();
    let stdout = started.stream(bulkhead_protocol::StreamKind::Stdout);
    std::io::Read::read_exact(stdout, &mut [0; 6]).unwrap();
    signal(&mut agent, init("a"), 15, false);
    assert_eq!(agent.connection.wait(init("a")), ExitStatus::Code(42));
    let ended = agent.connection.request(RequestBody::Signal {
        process: init("a"),
        signal: 15,
        all: false,
    });
    assert_eq!(ended.unwrap_err().kind, ErrorKind::InvalidState);
}

#[test]
fn all_processes_are_signalled_together() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    agent
        .start_container("a", &rootfs.config(&["sleep", "1000"]), None)
        .unwrap();
    let exec = agent
        .start_exec("a", "e", &process(&["sleep", "1000"]), None)
        .unwrap();
    signal(&mut agent, init("a"), 10, true);
    assert_eq!(agent.connection.wait(exec.name), ExitStatus::Signal(10));
    signal(&mut agent, init("a"), 9, true);
    assert_eq!(agent.connection.wait(init("a")), ExitStatus::Signal(9));
}

#[test]
fn without_a_pid_namespace_nobody_survives_init() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell("sleep 1000 & sleep 1000 & exit 1");
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    let outcome = agent.run("a", &config).unwrap();
    assert_eq!(outcome.exit, ExitStatus::Code(1));
    agent.delete("a", false).unwrap();
    assert!(!agent.cgroup().join("a").exists());
}

#[test]
fn cgroups_of_any_name_and_depth_go_with_their_container() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell(
        "cd /sys/fs/cgroup; mkdir $(printf '\\377'); \
         for n in $(seq 100); do mkdir $n && cd $n; done; \
         (echo 0 > cgroup.procs; exec sleep 1000) & echo ready; wait",
    );
    make_cgroup_writable(&mut config);
    let mut started = agent.start_container("a", &config, None).unwrap();
    let stdout = started.stream(bulkhead_protocol::StreamKind::Stdout);
    std::io::Read::read_exact(stdout, &mut [0; 6]).unwrap();
    agent.delete("a", true).unwrap();
    assert!(!agent.cgroup().join("a").exists());
}

#[test]
fn a_container_in_another_s_pid_namespace_is_deleted_with_its_orphans() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    agent
        .start_container("first", &rootfs.config(&["sleep", "1000"]), None)
        .unwrap();
    let pid = status(&mut agent, "first").pid;
    // Orphans become children of the first one's init, which reaps nobody.
    let mut config = rootfs.shell("for n in $(seq 20); do sleep 1000 & done; echo ready; wait");
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    for namespace in namespaces.iter_mut().filter(|n| n["type"] == "pid") {
        namespace["path"] = format!("/proc/{pid}/ns/pid").into();
    }
    for _ in 0..5 {
        let mut second = agent.start_container("second", &config, None).unwrap();
        let stdout = second.stream(bulkhead_protocol::StreamKind::Stdout);
        std::io::Read::read_exact(stdout, &mut [0; 6]).unwrap();
        agent.delete("second", true).unwrap();
        assert!(!agent.cgroup().join("second").exists());
    }
}

#[test]
fn a_running_container_is_deleted_by_force() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let started = agent
        .start_container("a", &rootfs.config(&["yes"]), None)
        .unwrap();
    let exec = agent
        .start_exec("a", "e", &process(&["sleep", "1000"]), None)
        .unwrap();
    let exec_over = agent
        .connection
        .send(RequestBody::Wait { process: exec.name });
    assert_eq!(agent.delete("a", true).unwrap(), Response::Done);
    assert!(matches!(
        agent.connection.receive(exec_over),
        Ok(Response::Exited(ExitStatus::Signal(9)))
    ));
    assert!(!agent.cgroup().join("a").exists());
    drop(started);
    // The id is free again.
    assert_eq!(
        agent.run("a", &rootfs.shell("exit 4")).unwrap().exit,
        ExitStatus::Code(4)
    );
}

#[test]
fn a_delete_by_force_while_init_sets_itself_up_is_answered() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    for _ in 0..10 {
        let created = create(&mut agent, "a", &rootfs.config(&["true"]));
        let container = "a".to_owned();
        let force = true;
        let deleted = agent
            .connection
            .send(RequestBody::Delete { container, force });
        assert_eq!(agent.connection.receive(deleted), Ok(Response::Done));
        assert!(agent.connection.receive(created).is_err());
    }
    assert!(!agent.cgroup().join("a").exists());
}

#[test]
fn a_client_that_leaves_takes_nothing_with_it() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    agent
        .start_container("a", &rootfs.config(&["sleep", "1000"]), None)
        .unwrap();
    for _ in 0..100 {
        let mut connection = agent.connect();
        connection.send(RequestBody::Wait { process: init("a") });
        drop(connection);
    }
    assert_eq!(status(&mut agent, "a").state, ContainerState::Running);
}

#[test]
fn nonsense_ends_the_connection_and_nothing_else() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\x02\0\0\0{}", b"\x01\0\0\0x"] {
        let mut connection = agent.connect();
        connection.send_raw(bytes);
        assert!(connection.is_closed());
    }
    assert_eq!(
        agent.run("a", &rootfs.shell("exit 5")).unwrap().exit,
        ExitStatus::Code(5)
    );
}

#[test]
fn nothing_is_left_of_many_containers() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let descriptors = |agent: &TestAgent| {
        fs::read_dir(format!("/proc/{}/fd", agent.agent_pid()))
            .unwrap()
            .count()
    };
    agent.run("first", &rootfs.shell("true")).unwrap();
    agent.delete("first", false).unwrap();
    let before = descriptors(&agent);
    for n in 0..20 {
        let id = format!("a{n}");
        agent.run(&id, &rootfs.shell("true")).unwrap();
        agent.delete(&id, false).unwrap();
    }
    assert_eq!(descriptors(&agent), before);
    assert_eq!(children(agent.agent_pid()), 0, "children are left");
}

/// How many children a process has, those included that it has not reaped.
fn children(parent: u32) -> usize {
    let is_child = |stat: &String| {
        // After the name, which may hold anything: state, parent.
        let fields = stat.rsplit_once(')').unwrap().1;
        fields.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(is_child)
        .count()
}
