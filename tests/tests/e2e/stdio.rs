//! Standard streams.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use bulkhead_tests::{PROBE, World, wait_until};

#[test]
fn megabytes_arrive_unchanged() {
    const LEN: usize = 3_000_001;
    let world = World::new();
    let command = format!("{PROBE} write {LEN} | sha256sum; {PROBE} write {LEN}");
    let mut child = world
        .bundle()
        .shell(&command)
        .verb("run", &["test"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut received = Vec::new();
    std::io::Read::read_to_end(&mut child.stdout.take().unwrap(), &mut received).unwrap();
    assert!(child.wait().unwrap().success());
    let end_of_line = received.iter().position(|b| *b == b'\n').unwrap();
    let pattern = &received[end_of_line + 1..];
    assert_eq!(pattern.len(), LEN);
    assert!(
        pattern
            .iter()
            .enumerate()
            .all(|(offset, b)| *b == (offset % 251) as u8)
    );
}

#[test]
fn input_that_nobody_reads_does_not_hold_up_the_end() {
    let world = World::new();
    let mut running = world.bundle().shell("exit 3").start();
    let mut input = running.stdin().unwrap();
    let writer = std::thread::spawn(move || {
        // Fails as soon as the container is gone; that is what is wanted.
        while input.write_all(&[0; 4096]).is_ok() {}
    });
    let _ = running.wait().expect_code(3);
    writer.join().unwrap();
}

#[test]
fn output_of_a_reader_that_went_away_is_a_broken_pipe() {
    let world = World::new();
    let mut child = world
        .bundle()
        .shell("while echo y; do :; done 2>/dev/null; exit 9")
        .verb("run", &["test"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    drop(child.stdout.take());
    // 128 + SIGPIPE, or the shell's own exit, had it ignored the signal.
    assert!(matches!(child.wait().unwrap().code(), Some(141 | 9)));
}

#[test]
fn standard_output_can_be_opened_again() {
    let world = World::new();
    let outcome = world
        .bundle()
        .shell("echo again > /dev/stdout")
        .run()
        .expect_code(0);
    assert_eq!(outcome.stdout, "again\n");
}

#[test]
fn streams_that_the_container_closes_are_closed_for_the_caller() {
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("exec <&- >&- 2>&-; touch /closed; exec sleep 1000");
    let log = world.path().join("log");
    let mut create = bundle
        .verb("create", &["--log", log.to_str().unwrap(), "c1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = create.stdin.take().unwrap();
    assert!(create.wait().unwrap().success());
    let _ = world.run(["start", "c1"]).expect_code(0);
    let mut output = String::new();
    create
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut output)
        .unwrap();
    create
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut output)
        .unwrap();
    assert_eq!(output, "");
    wait_until("input is refused", || input.write_all(b"x").is_err());
    assert_eq!(world.state("c1")["status"], "running");
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn descriptors_of_the_caller_stay_the_callers() {
    let world = World::new();
    let bundle = world.bundle().command(&["/bin/sleep", "1000"]);
    let file = world.path().join("precious");
    let script = format!(
        "exec 9>'{}'; {} >/dev/null 2>&1",
        file.display(),
        bundle.line("create", &["c1"])
    );
    let _ = world.run_in_mount_namespace(&script).expect_code(0);
    for process in ["monitor", "vmm", "fsd"] {
        for pid in world.processes(process) {
            let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
            let has_it = open
                .filter_map(|entry| fs::read_link(entry.path()).ok())
                .any(|target| target == file);
            assert!(!has_it, "{process} has {}", file.display());
        }
    }
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

/// A job in the background of a shell may not read from its terminal.
#[test]
fn run_in_the_background_of_a_terminal_is_not_stopped() {
    let world = World::new();
    let bundle = world.bundle().shell("cat; echo over");
    let script = format!(
        "set -m; {} & wait $!; echo code $?",
        bundle.line("run", &["test"])
    );
    let outcome = world.run_on_terminal(&script).expect_code(0);
    assert!(outcome.stdout.contains("over\r\n"), "{outcome:#?}");
    assert!(outcome.stdout.contains("code 0\r\n"), "{outcome:#?}");
}
