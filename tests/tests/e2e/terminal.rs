//! Terminals: the one `bulkhead` was started on, and an engine's.

use std::process::{Command, Stdio};

use bulkhead_tests::{Bundle, ConsoleSocket, Outcome, Terminal, World, wait_until};
use serde_json::json;

/// A container on a terminal that runs a shell script.
fn on_terminal<'w>(world: &'w World, script: &str) -> Bundle<'w> {
    let bundle = world.bundle().shell(script);
    bundle.set("/process/terminal", json!(true))
}

/// Says its terminal's size once that changes, then a line that is typed. The wait
/// is not for the line: a signal right before a shell's `read` is not handled
/// before there is something to read.
const SAY_SIZE: &str = "trap 'stty size; kill $!' WINCH; sleep 1000 & echo ready; wait $!; \
                        read line; echo got $line";

/// Runs a command that leaves a process behind, which keeps its streams.
fn succeed(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().expect("bulkhead can be started");
    assert!(status.success(), "{command:?}: {status}");
}

/// Sees a process that says its terminal's size to its end.
fn resize_and_type(terminal: &mut Terminal) {
    terminal.wait_for("ready");
    terminal.resize((33, 99));
    terminal.wait_for("33 99");
    terminal.type_in("words\n");
    terminal.wait_for("got words");
}

#[test]
fn terminal_has_the_size_and_the_manners_of_one() {
    let world = World::new();
    let bundle = on_terminal(&world, "tty; stty size; echo to-stderr >&2");
    let run = bundle.line("run", &["test"]);
    let outcome = world
        .run_on_terminal(&format!("stty rows 31 cols 77; {run}"))
        .expect_code(0);
    assert!(outcome.stdout.contains("/dev/pts/0\r\n"), "{outcome:#?}");
    assert!(outcome.stdout.contains("31 77\r\n"), "{outcome:#?}");
    assert!(outcome.stdout.contains("to-stderr\r\n"), "{outcome:#?}");
}

#[test]
fn change_of_size_is_passed_on() {
    let world = World::new();
    let bundle = on_terminal(&world, SAY_SIZE);
    let (mut terminal, mut child) = Terminal::start(&bundle.verb("run", &["test"]), (24, 80));
    resize_and_type(&mut terminal);
    assert!(child.wait().unwrap().success());
}

#[test]
fn change_of_size_before_the_guest_is_up_is_passed_on_later() {
    let world = World::new();
    let script = "until test \"$(stty size)\" = '33 99'; do sleep 0.1; done; echo resized";
    let bundle = on_terminal(&world, script);
    let (mut terminal, mut child) = Terminal::start(&bundle.verb("run", &["test"]), (24, 80));
    wait_until("the VMM is started", || !world.processes("vmm").is_empty());
    terminal.resize((33, 99));
    terminal.wait_for("resized");
    assert!(child.wait().unwrap().success());
}

#[test]
fn engine_gets_the_terminal_of_a_container() {
    let world = World::new();
    let bundle = on_terminal(&world, SAY_SIZE);
    let socket = ConsoleSocket::listen(world.path().join("console"));
    succeed(&mut bundle.verb("create", &["--console-socket", socket.path(), "c1"]));
    let mut terminal = socket.take();
    let _ = world.run(["start", "c1"]).expect_code(0);
    resize_and_type(&mut terminal);
    wait_until("it stopped", || world.state("c1")["status"] == "stopped");
    assert_eq!(world.state("c1")["exit"]["code"], 0);
    let _ = world.run(["delete", "c1"]).expect_code(0);
}

#[test]
fn create_with_a_terminal_leaves_nobody_on_its_streams() {
    let world = World::new();
    let bundle = on_terminal(&world, "sleep 1000");
    let socket = ConsoleSocket::listen(world.path().join("console"));
    // It ends with its streams, not with itself.
    let _ = Outcome::of(&mut bundle.verb("create", &["--console-socket", socket.path(), "c1"]))
        .expect_code(0);
    let _terminal = socket.take();
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn engine_gets_the_terminal_of_a_further_process() {
    let world = World::new();
    world.bundle().command(&["/bin/sleep", "1000"]).create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    let socket = ConsoleSocket::listen(world.path().join("console"));
    let arguments = [
        "exec",
        "--detach",
        "--tty",
        "--console-socket",
        socket.path(),
    ];
    let command = ["c1", "sh", "-c", SAY_SIZE];
    succeed(&mut world.bulkhead(arguments.into_iter().chain(command)));
    resize_and_type(&mut socket.take());
    wait_until("it ended", || world.processes("exec").is_empty());
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn further_process_has_the_callers_terminal() {
    let world = World::new();
    world.bundle().command(&["/bin/sleep", "1000"]).create("c1");
    let _ = world.run(["start", "c1"]).expect_code(0);
    let exec = world.line(["exec", "--tty", "c1", "sh", "-c", "tty; stty size; exit 3"]);
    let outcome = world
        .run_on_terminal(&format!("stty rows 31 cols 77; {exec}"))
        .expect_code(3);
    assert!(outcome.stdout.contains("/dev/pts/"), "{outcome:#?}");
    assert!(outcome.stdout.contains("31 77\r\n"), "{outcome:#?}");
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn detached_terminal_needs_a_console_socket() {
    let world = World::new();
    let outcome = Outcome::of(&mut on_terminal(&world, "true").verb("create", &["test"]));
    let _ = outcome.expect_code(1).expect_message("--console-socket");
}
