//! Further processes in a container.

use std::fs;

use bulkhead_protocol::{
    ContainerState, ErrorKind, ExecProcess, ExitStatus, Json, ProcessId, RequestBody, Response,
    Stdio, WindowSize,
};

use crate::bundle::{Rootfs, make_cgroup_writable, process};

#[test]
fn exec_is_in_the_container() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    agent
        .start_container("a", &rootfs.config(&["sleep", "1000"]), None)
        .unwrap();
    let line = "cat /proc/1/comm; hostname; cat /proc/self/cgroup; for n in pid mnt net ipc uts \
                cgroup; do test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || \
                echo differs: $n; done; ls /etc; exit 9";
    let started = agent
        .start_exec("a", "e", &process(&["sh", "-c", line]), None)
        .unwrap();
    let outcome = started.finish(&mut agent.connection, b"");
    assert_eq!(
        outcome.stdout, "sleep\nbox\n0::/\npasswd\n",
        "{}",
        outcome.stderr
    );
    assert_eq!(outcome.exit, ExitStatus::Code(9));
}

#[test]
fn exec_has_a_terminal_of_the_container() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    agent
        .start_container("a", &rootfs.config(&["sleep", "1000"]), None)
        .unwrap();
    let size = WindowSize {
        rows: 5,
        columns: 6,
    };
    let args = process(&["sh", "-c", "tty; stty size"]);
    let started = agent.start_exec("a", "e", &args, Some(size)).unwrap();
    let outcome = started.finish(&mut agent.connection, b"");
    assert_eq!(outcome.stdout, "/dev/pts/0\r\n5 6\r\n");
}

#[test]
fn exec_follows_init_into_its_own_cgroup() {
    controllers_or_skip!();
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell(
        "mkdir /sys/fs/cgroup/init && echo 1 > /sys/fs/cgroup/init/cgroup.procs && \
         echo +pids > /sys/fs/cgroup/cgroup.subtree_control && echo ready && sleep 1000",
    );
    make_cgroup_writable(&mut config);
    let mut started = agent.start_container("a", &config, None).unwrap();
    let stdout = started.stream(bulkhead_protocol::StreamKind::Stdout);
    std::io::Read::read_exact(stdout, &mut [0; 6]).unwrap();
    let args = process(&["cat", "/proc/self/cgroup"]);
    let exec = agent.start_exec("a", "e", &args, None).unwrap();
    assert_eq!(exec.finish(&mut agent.connection, b"").stdout, "0::/init\n");
    agent.delete("a", true).unwrap();
    assert!(!agent.cgroup().join("a").exists());
}

#[test]
fn exec_fails_as_commands_fail() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    agent
        .start_container("a", &rootfs.config(&["sleep", "1000"]), None)
        .unwrap();
    for (command, kind) in [
        ("no-such-command", ErrorKind::CommandNotFound),
        ("/no/such/file", ErrorKind::CommandNotFound),
        ("/etc", ErrorKind::CommandNotExecutable),
        ("/etc/passwd", ErrorKind::CommandNotExecutable),
    ] {
        let error = agent
            .start_exec("a", "e", &process(&[command]), None)
            .err()
            .unwrap();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(command), "{error}");
    }
    let mut args = process(&["true"]);
    args["cwd"] = "/no/such/directory".into();
    let error = agent.start_exec("a", "e", &args, None).err().unwrap();
    assert!(error.message.contains("/no/such/directory"), "{error}");
}

#[test]
fn an_exec_that_cannot_be_started_is_gone_and_its_waiters_are_told() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    agent
        .start_container("a", &rootfs.config(&["sleep", "1000"]), None)
        .unwrap();
    let mut args = process(&["true"]);
    // Beyond what the kernel takes.
    args["oomScoreAdj"] = 2000.into();
    for _ in 0..2 {
        let (port, _listener) = agent.listen();
        let name = ProcessId {
            container: "a".into(),
            exec: Some("e".into()),
        };
        let exec = ExecProcess {
            process: name.clone(),
            spec: Json::new(&args).unwrap(),
            seccomp_filter: None,
            stdio: Stdio {
                port,
                stdin: true,
                stdout: true,
                stderr: true,
                terminal: None,
            },
            cgroup: None,
        };
        let exec = agent.connection.send(RequestBody::Exec(Box::new(exec)));
        let wait = agent.connection.send(RequestBody::Wait { process: name });
        for request in [exec, wait] {
            let error = agent.connection.receive(request).unwrap_err();
            assert!(error.message.contains("oom_score_adj"), "{error}");
        }
    }
    let processes = fs::read_to_string(agent.cgroup().join("a/cgroup.procs")).unwrap();
    assert_eq!(processes.lines().count(), 1, "{processes}");
}

#[test]
fn exec_needs_a_container_that_runs_and_a_free_name() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let error = agent
        .start_exec("a", "e", &process(&["true"]), None)
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::NotFound);
    agent
        .start_container("a", &rootfs.config(&["sleep", "1000"]), None)
        .unwrap();
    let exec = agent
        .start_exec("a", "e", &process(&["sleep", "1000"]), None)
        .unwrap();
    let error = agent
        .start_exec("a", "e", &process(&["true"]), None)
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::AlreadyExists);
    let process_id = exec.name.clone();
    let kill = RequestBody::Signal {
        process: process_id,
        signal: 9,
        all: false,
    };
    agent.connection.request(kill).unwrap();
    assert_eq!(agent.connection.wait(exec.name), ExitStatus::Signal(9));
    // Told once, an exec's name is free again.
    let exec = agent
        .start_exec("a", "e", &process(&["true"]), None)
        .unwrap();
    assert_eq!(
        exec.finish(&mut agent.connection, b"").exit,
        ExitStatus::Code(0)
    );

    agent
        .connection
        .request(RequestBody::Signal {
            process: bulkhead_protocol::ProcessId {
                container: "a".into(),
                exec: None,
            },
            signal: 9,
            all: false,
        })
        .unwrap();
    let init = bulkhead_protocol::ProcessId {
        container: "a".into(),
        exec: None,
    };
    agent.connection.wait(init);
    let error = agent
        .start_exec("a", "e", &process(&["true"]), None)
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::InvalidState);
}

#[test]
fn exec_is_killed_when_its_client_leaves() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    agent
        .start_container("a", &rootfs.config(&["sleep", "1000"]), None)
        .unwrap();
    let client = agent.connect();
    let other = std::mem::replace(&mut agent.connection, client);
    let exec = agent
        .start_exec("a", "e", &process(&["sleep", "1000"]), None)
        .unwrap();
    let client = std::mem::replace(&mut agent.connection, other);
    let left = agent.connection.send(RequestBody::Wait {
        process: exec.name.clone(),
    });
    drop((client, exec.streams));
    let ended = agent.connection.receive(left);
    assert_eq!(ended, Ok(Response::Exited(ExitStatus::Signal(9))));
    let container = agent.connection.request(RequestBody::Status {
        container: "a".into(),
    });
    assert!(matches!(
        container,
        Ok(Response::Status(status)) if status.state == ContainerState::Running
    ));
}

#[test]
fn thousands_of_execs_leave_nothing_open() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    agent
        .start_container("a", &rootfs.config(&["sleep", "1000"]), None)
        .unwrap();
    let descriptors = |pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let pid = agent.agent_pid();
    let rounds = if std::env::var_os("BULKHEAD_LONG_TESTS").is_some() {
        3000
    } else {
        50
    };
    let mut before = 0;
    for n in 0..rounds {
        let exec = agent
            .start_exec("a", &format!("e{n}"), &process(&["true"]), None)
            .unwrap();
        assert_eq!(
            exec.finish(&mut agent.connection, b"").exit,
            ExitStatus::Code(0)
        );
        if n == 5 {
            before = descriptors(pid);
        }
    }
    assert_eq!(descriptors(pid), before);
}
