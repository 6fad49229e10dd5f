//! The control stream, as the process reads it that started the VMM.
#![no_main]

use arbitrary::Arbitrary;
use bulkhead::fuzzing::control_stream;
use bulkhead_fuzz::edit::{self, Edit};
use bulkhead_fuzz::input::{Chunk, Few, Script};
use bulkhead_fuzz::pieces;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    lengths: [u8; 8],
    lines: Script<Line<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Line<'a> {
    /// One that a VMM could send, and what becomes of it.
    Edited(u8, Few<Edit<'a>, 4>),
    /// Anything.
    Bytes(Chunk<'a>),
}

fn documents() -> [Value; 6] {
    let at = json!({ "monotonic_ns": 5_000_000, "tsc": 10_000_000 });
    let guest_tsc = json!({ "offset": u64::MAX - 1_000_000, "khz": 2_000_000 });
    [
        json!({ "event": "kvm-ready", "monotonic_ns": 4_000_000, "tsc": 8_000_000 }),
        json!({ "event": "kernel-entered", "at": at, "guest_tsc": guest_tsc }),
        json!({ "event": "exit", "reason": "power-off", "console_tail": "" }),
        json!({ "event": "exit", "reason": "triple-fault", "vcpu": 1, "console_tail": "text" }),
        json!({ "event": "exit", "reason": "fs-backend-lost", "tag": "shared", "detail": "gone",
            "console_tail": "" }),
        json!({ "event": "failed", "error": "no /dev/kvm" }),
    ]
}

fuzz_target!(|input: Input<'_>| {
    let documents = documents();
    let mut stream = Vec::new();
    for line in &input.lines.0 {
        match line {
            Line::Edited(index, Few(edits)) => {
                let mut document = documents[usize::from(*index) % documents.len()].clone();
                edit::apply(&mut document, edits);
                stream.extend(document.to_string().into_bytes());
                stream.push(b'\n');
            }
            Line::Bytes(Chunk(bytes)) => stream.extend(*bytes),
        }
    }
    // However it is cut, it says the same.
    let whole = control_stream(&[&stream]).unwrap();
    let cut = control_stream(&pieces(&stream, &input.lengths)).unwrap();
    assert_eq!(whole, cut);
});
