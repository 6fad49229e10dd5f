//! What an agent tells the process that stands for its container.
#![no_main]

use arbitrary::Arbitrary;
use bulkhead::fuzzing::follow_agent;
use bulkhead_fuzz::edit::{self, Edit};
use bulkhead_fuzz::input::{Chunk, Few, Script};
use bulkhead_fuzz::pieces;
use bulkhead_protocol::{VERSION, frame};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    lengths: [u8; 8],
    messages: Script<Message<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Message<'a> {
    /// One that an agent could send, and what becomes of it.
    Edited(u8, Few<Edit<'a>, 4>),
    /// Anything.
    Bytes(Chunk<'a>),
}

fn documents() -> [Value; 8] {
    let stamps = json!({ "started_tsc": 5_000_000_000_u64, "ready_tsc": 5_001_000_000_u64 });
    let status = json!({ "state": "running", "pid": 7, "exit": { "signal": 9 } });
    let error = json!({ "kind": "command-not-found", "message": "no such file" });
    let level = json!({ "current": 1, "peak": 2, "max": null });
    let device = json!({ "major": 8, "minor": 0, "counts": { "rbytes": 5 } });
    let usage = json!({
        "cpu": { "usage_usec": 5 }, "memory": level, "swap": level, "memory_stat": {},
        "memory_events": { "oom_kill": 0 }, "tasks": level, "io": [device],
    });
    let process = json!({
        "pid": 7, "parent": 1, "uid": 0, "cpu_ms": 3, "age_s": 4, "terminal": 0, "command": "sh",
    });
    [
        json!({ "version": VERSION, "kernel_release": "6.12.0", "stamps": stamps }),
        json!({ "id": 1, "result": { "Ok": { "created": { "pid": 7 } } } }),
        json!({ "id": 2, "result": { "Ok": { "started": { "pid": 7, "exec_tsc": 5_002_000_000_u64 } } } }),
        json!({ "id": 3, "result": { "Ok": { "exited": { "code": 0 } } } }),
        json!({ "id": 17, "result": { "Ok": { "status": status } } }),
        json!({ "id": 2, "result": { "Err": error } }),
        json!({ "id": 1, "result": { "Ok": { "usage": usage } } }),
        json!({ "id": 1, "result": { "Ok": { "processes": [process] } } }),
    ]
}

fuzz_target!(|input: Input<'_>| {
    let documents = documents();
    let mut stream = Vec::new();
    for message in &input.messages.0 {
        match message {
            Message::Edited(index, Few(edits)) => {
                let mut document = documents[usize::from(*index) % documents.len()].clone();
                edit::apply(&mut document, edits);
                stream.extend(frame::encode(&document).unwrap());
            }
            Message::Bytes(Chunk(bytes)) => stream.extend(*bytes),
        }
    }
    let directory = tempfile::tempdir().unwrap();
    follow_agent(directory.path(), &pieces(&stream, &input.lengths)).unwrap();
});
