//! Standard streams and terminals.

use std::io::Write;
use std::process::{Command, Stdio};

use bulkhead_tests::{Outcome, PROBE, World};
use serde_json::json;

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
fn terminal_has_the_size_and_the_manners_of_one() {
    let world = World::new();
    let bundle = world.bundle().shell("tty; stty size; echo to-stderr >&2");
    let bundle = bundle.set("/process/terminal", json!(true));
    let command = bundle.verb("run", &["test"]);
    // `script` gives the runtime a terminal of its own.
    let line = format!("stty rows 31 cols 77; {}", quoted(&command));
    let mut script = Command::new("script");
    script
        .args(["-qefc", &line, "/dev/null"])
        .envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let outcome = Outcome::of(&mut script).expect_code(0);
    assert!(outcome.stdout.contains("/dev/pts/0\r\n"), "{outcome:#?}");
    assert!(outcome.stdout.contains("31 77\r\n"), "{outcome:#?}");
    assert!(outcome.stdout.contains("to-stderr\r\n"), "{outcome:#?}");
}

#[test]
fn detached_terminal_needs_a_console_socket() {
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("true")
        .set("/process/terminal", json!(true));
    let outcome = Outcome::of(&mut bundle.verb("create", &["test"]));
    let _ = outcome.expect_code(1).expect_message("--console-socket");
}

/// The command as a line for a shell. None of our paths holds a quote.
fn quoted(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().expect("UTF-8")))
        .collect::<Vec<_>>()
        .join(" ")
}
