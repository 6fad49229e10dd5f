//! Standard streams: pipes and terminals.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use bulkhead_protocol::{ExitStatus, RequestBody, StreamKind, WindowSize};

use crate::bundle::{Rootfs, process};

#[test]
fn output_and_exit_code_come_through() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let outcome = agent
        .run("a", &rootfs.shell("echo out; echo err >&2; exit 7"))
        .unwrap();
    assert_eq!(outcome.stdout, "out\n");
    assert_eq!(outcome.stderr, "err\n");
    assert_eq!(outcome.exit, ExitStatus::Code(7));
}

#[test]
fn input_comes_through_and_ends() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let started = agent
        .start_container("a", &rootfs.shell("wc -c"), None)
        .unwrap();
    let outcome = started.finish(&mut agent.connection, &vec![b'x'; 3_000_000]);
    assert_eq!(outcome.stdout.trim(), "3000000");
}

#[test]
fn large_output_is_complete() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let outcome = agent
        .run("a", &rootfs.shell("head -c 5000000 /dev/zero"))
        .unwrap();
    assert_eq!(outcome.stdout.len(), 5_000_000);
}

#[test]
fn a_reader_that_stops_holds_up_nobody_else() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let started = agent
        .start_container("a", &rootfs.shell("yes"), None)
        .unwrap();
    let outcome = agent.run("b", &rootfs.shell("echo hello")).unwrap();
    assert_eq!(outcome.stdout, "hello\n");
    drop(started);
}

#[test]
fn a_writer_whose_reader_has_gone_is_told() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut started = agent
        .start_container("a", &rootfs.config(&["yes"]), None)
        .unwrap();
    started
        .stream(StreamKind::Stdout)
        .read_exact(&mut [0; 100])
        .unwrap();
    let name = started.name.clone();
    drop(started);
    // As init of a pid namespace it survives SIGPIPE, but not the failed write.
    assert_ne!(agent.connection.wait(name), ExitStatus::Code(0));
}

#[test]
fn output_of_an_orphan_is_not_waited_for() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    agent
        .start_container("a", &rootfs.config(&["sleep", "1000"]), None)
        .unwrap();
    let begin = Instant::now();
    let args = ["sh", "-c", "sleep 100 & head -c 50000 /dev/zero"];
    let started = agent.start_exec("a", "e", &process(&args), None).unwrap();
    let outcome = started.finish(&mut agent.connection, b"");
    assert_eq!(outcome.stdout.len(), 50_000);
    assert!(begin.elapsed() < Duration::from_secs(50));
}

#[test]
fn standard_streams_can_be_opened_again() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell("echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin");
    config["process"]["user"] = serde_json::json!({"uid": 1000, "gid": 1000});
    let started = agent.start_container("a", &config, None).unwrap();
    let outcome = started.finish(&mut agent.connection, b"in");
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("out\nin", "err\n"));
}

#[test]
fn a_terminal_is_one() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let size = WindowSize {
        rows: 33,
        columns: 99,
    };
    let line = "tty; stty size; test -c /dev/console && echo console; read x; echo got $x; \
                stty size; ps -o tty= -p 1";
    let mut started = agent
        .start_container("a", &rootfs.shell(line), Some(size))
        .unwrap();
    let mut text = String::new();
    while !text.contains("console") {
        let mut chunk = [0; 100];
        let n = started
            .stream(StreamKind::Terminal)
            .read(&mut chunk)
            .unwrap();
        text.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    assert!(text.starts_with("/dev/pts/0\r\n33 99\r\n"), "{text}");
    let process = started.name.clone();
    let size = WindowSize {
        rows: 11,
        columns: 22,
    };
    agent
        .connection
        .request(RequestBody::Resize { process, size })
        .unwrap();
    started
        .stream(StreamKind::Terminal)
        .write_all(b"word\n")
        .unwrap();
    let outcome = started.finish(&mut agent.connection, b"");
    assert!(
        outcome.stdout.contains("got word\r\n11 22\r\npts/0"),
        "{}",
        outcome.stdout
    );
    assert_eq!(outcome.exit, ExitStatus::Code(0));
}

#[test]
fn a_terminal_s_last_output_is_complete() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let size = WindowSize {
        rows: 24,
        columns: 80,
    };
    for n in 0..5 {
        let id = format!("a{n}");
        let config = rootfs.shell("head -c 20000 /dev/zero | tr '\\0' x; echo; echo end");
        let started = agent.start_container(&id, &config, Some(size)).unwrap();
        let outcome = started.finish(&mut agent.connection, b"");
        assert!(outcome.stdout.ends_with("end\r\n"));
        assert_eq!(outcome.stdout.len(), 20_000 + 2 + 5);
        agent.delete(&id, false).unwrap();
    }
}

#[test]
fn a_lost_terminal_hangs_up() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let size = WindowSize {
        rows: 24,
        columns: 80,
    };
    let config = rootfs.shell("trap 'exit 5' HUP; while :; do echo x; sleep 0.1; done");
    let mut started = agent.start_container("a", &config, Some(size)).unwrap();
    started
        .stream(StreamKind::Terminal)
        .read_exact(&mut [0])
        .unwrap();
    let _ = started
        .stream(StreamKind::Terminal)
        .shutdown(Shutdown::Both);
    assert_eq!(agent.connection.wait(started.name), ExitStatus::Code(5));
}
