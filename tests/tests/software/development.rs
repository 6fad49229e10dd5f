//! Compilers and interpreters.

use bulkhead_tests::World;
use serde_json::json;

use crate::Machine;

#[test]
fn gcc_compiles_a_program_that_runs() {
    let world = World::new();
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/software/program");
    let machine = Machine::new(&world, "root", "sleep 1000").push(
        "/mounts",
        json!({ "destination": "/mnt", "type": "bind", "source": sources, "options": ["rbind", "ro"] }),
    );
    machine.start();
    machine.run("cp -r /mnt /tmp/program && cd /tmp/program && make -j2");
    let run = "printf 'one two two\nThree three three, four\n' >/tmp/words && /tmp/program/wordcount /tmp/words";
    assert_eq!(machine.run(run), "4 7 -2.43 /tmp/words");
    machine.end("KILL");
}

/// Those of Python's own tests that are about what the kernel does for it, and do not
/// take hours in an emulated host.
const TESTS: &str = "test_epoll test_fcntl test_fileio test_mmap test_pty test_select";

#[test]
fn python_passes_its_own_tests() {
    let world = World::new();
    let machine = Machine::new(&world, "root", "sleep 1000");
    machine.start();
    machine.run(&format!("cd /tmp && exec python3 -m test {TESTS} 2>&1"));
    machine.end("KILL");
}
