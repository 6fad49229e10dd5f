//! Frames and the messages in them, in whatever pieces they come.
#![no_main]

use arbitrary::Arbitrary;
use bulkhead_fuzz::pieces;
use bulkhead_protocol::frame::{self, Decoder};
use bulkhead_protocol::{Hello, Reply, Request};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    message: Message,
    lengths: [u8; 4],
    /// Whether the bytes are what frames hold, and need a length before them.
    framed: bool,
    bytes: &'a [u8],
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Message {
    Hello,
    Request,
    Reply,
}

/// Two ways to read a stream see the same messages, and each is read from what
/// is written of it.
fn decode<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(
    stream: &[u8],
    lengths: &[u8],
) {
    let mut decoder = Decoder::default();
    let mut messages: Vec<T> = Vec::new();
    let mut refused = false;
    for piece in pieces(stream, lengths) {
        decoder.extend(piece);
        while !refused {
            match decoder.take() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => refused = true,
            }
        }
    }
    refused |= decoder.ended().is_err();

    let mut reader = stream;
    for message in &messages {
        assert_eq!(
            frame::read::<T>(&mut reader).unwrap().as_ref(),
            Some(message)
        );
        let bytes = frame::encode(message).unwrap();
        assert_eq!(
            frame::read::<T>(&mut bytes.as_slice()).unwrap().as_ref(),
            Some(message)
        );
    }
    let next = frame::read::<T>(&mut reader);
    assert_eq!(next.is_err(), refused);
    assert!(!matches!(next, Ok(Some(_))));
}

fuzz_target!(|input: Input<'_>| {
    let mut stream = Vec::new();
    if input.framed {
        stream.extend((input.bytes.len() as u32).to_le_bytes());
    }
    stream.extend(input.bytes);
    match input.message {
        Message::Hello => decode::<Hello>(&stream, &input.lengths),
        Message::Request => decode::<Request>(&stream, &input.lengths),
        Message::Reply => decode::<Reply>(&stream, &input.lengths),
    }
});
