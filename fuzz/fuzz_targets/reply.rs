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

fn documents() -> [Value; 6] {
    let stamps = json!({ "started_tsc": 5_000_000_000_u64, "ready_tsc": 5_001_000_000_u64 });
    let status = json!({ "state": "running", "pid": 7, "exit": { "signal": 9 } });
    let error = json!({ "kind": "command-not-found", "message": "no such file" });
    [
        json!({ "version": VERSION, "kernel_release": "6.12.0", "stamps": stamps }),
        json!({ "id": 1, "result": { "Ok": { "created": { "pid": 7 } } } }),
        json!({ "id": 2, "result": { "Ok": { "started": { "pid": 7, "exec_tsc": 5_002_000_000_u64 } } } }),
        json!({ "id": 3, "result": { "Ok": { "exited": { "code": 0 } } } }),
        json!({ "id": 17, "result": { "Ok": { "status": status } } }),
        json!({ "id": 2, "result": { "Err": error } }),
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
