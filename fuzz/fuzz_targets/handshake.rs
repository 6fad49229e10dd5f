//! The line by which a program on the host asks for a port of the guest.
#![no_main]

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use bulkhead_fuzz::pieces;
use bulkhead_fuzz::vsock::{Guest, dial, op};
use libfuzzer_sys::fuzz_target;

/// Longest request, the newline included.
const MAX_REQUEST: usize = 32;

/// What is to become of a program that writes certain bytes.
#[derive(Debug, PartialEq)]
enum Outcome<'a> {
    /// More is needed.
    Waiting,
    /// It is hung up on.
    Refused,
    /// It reaches a port, and the rest goes there.
    Connected(u32, &'a [u8]),
}

fn expected(bytes: &[u8]) -> Outcome<'_> {
    let seen = &bytes[..bytes.len().min(MAX_REQUEST)];
    let Some(end) = seen.iter().position(|&byte| byte == b'\n') else {
        return if seen.len() < MAX_REQUEST {
            Outcome::Waiting
        } else {
            Outcome::Refused
        };
    };
    let port = str::from_utf8(&seen[..end])
        .ok()
        .and_then(|line| line.strip_prefix("CONNECT "))
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok());
    match port {
        Some(port) => Outcome::Connected(port, &bytes[end + 1..]),
        None => Outcome::Refused,
    }
}

fn read_now(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 64];
    match stream.read(&mut bytes) {
        Ok(0) => None,
        Ok(count) => Some(bytes[..count].to_vec()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(Vec::new()),
        // It is hung up on with bytes unread.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("{error}"),
    }
}

thread_local! {
    static GUEST: RefCell<Guest> = RefCell::new(Guest::new(false));
}

/// Writes bytes to a new stream in pieces, and sees what becomes of it.
fn ask(guest: &mut Guest, bytes: &[u8], lengths: &[u8]) {
    let mut stream = dial();
    for piece in pieces(bytes, lengths) {
        if stream.write_all(piece).is_err() {
            break;
        }
        guest.run();
    }
    match expected(bytes) {
        Outcome::Waiting => {
            assert_eq!(read_now(&mut stream).as_deref(), Some(&[][..]));
            assert!(guest.inbox.is_empty());
        }
        Outcome::Refused => {
            assert_eq!(read_now(&mut stream), None);
            assert!(guest.inbox.is_empty());
        }
        Outcome::Connected(port, rest) => {
            let request = guest.inbox.remove(0).header;
            assert_eq!((request.op, request.dst_port), (op::REQUEST, port));
            let host = request.src_port;
            send(guest, op::RESPONSE, port, host);
            let accepted = format!("OK {host}\n");
            assert_eq!(read_now(&mut stream).as_deref(), Some(accepted.as_bytes()));
            let packets = guest.inbox.drain(..);
            let data: Vec<u8> = packets.flat_map(|packet| packet.data).collect();
            assert_eq!(data, rest);
            send(guest, op::RESET, port, host);
        }
    }
    drop(stream);
    guest.run();
}

fn send(guest: &mut Guest, op: u16, port: u32, host: u32) {
    let header = guest.header(op, port, host);
    guest.send(header, &[], [0; 3]);
    guest.run();
}

fuzz_target!(|input: ([u8; 4], &[u8])| {
    let (lengths, bytes) = input;
    GUEST.with_borrow_mut(|guest| ask(guest, bytes, &lengths));
});
