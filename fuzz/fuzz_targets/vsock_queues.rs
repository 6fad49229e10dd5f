//! The socket device's queues, in the hands of a guest that puts what it likes
//! into them.
#![no_main]

use std::io::Write;
use std::os::unix::net::UnixStream;

use arbitrary::Arbitrary;
use bulkhead_fuzz::input::{Chunk, Script};
use bulkhead_fuzz::ring::Descriptor;
use bulkhead_fuzz::vsock::{
    GUEST_CID, Guest, HOST_CID, Header, MEMORY_LEN, Rings, SERVED_PORT, STREAM, accept, dial, op,
};
use libfuzzer_sys::fuzz_target;
use vm_memory::{Bytes, GuestAddress};

/// The guest's port of a connection that a program on the host has asked for.
const SERVING: u32 = 1;
/// And of one that it has asked for itself.
const ASKING: u32 = 2;

/// Where there is nothing else.
const PACKET: u64 = 0xf_0000;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    event_idx: bool,
    steps: Script<Step<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// The guest makes any descriptor,
    Describe {
        tx: bool,
        index: u8,
        descriptor: Descriptor,
        in_memory: bool,
    },
    /// makes available what may be a chain,
    Offer { tx: bool, head: u8 },
    /// says that there are more,
    Announce { tx: bool, count: u16 },
    /// overwrites its memory, rings included,
    Memory { address: u32, bytes: Chunk<'a> },
    /// sends a packet whose header promises what it likes.
    Packet { op: u8, len: u32, data: Chunk<'a> },
    /// The host sends something.
    Data { to_server: bool, len: u16 },
}

/// A guest with two connections, and their ends on the host.
fn connected(event_idx: bool) -> (Guest, [UnixStream; 2]) {
    let mut guest = Guest::new(event_idx);
    let mut client = dial();
    writeln!(client, "CONNECT {SERVING}").unwrap();
    guest.run();
    let host = guest.inbox[0].header.src_port;
    for (op, port, host, data) in [
        (op::RESPONSE, SERVING, host, ""),
        (op::REQUEST, ASKING, SERVED_PORT, ""),
        (op::READ_WRITE, SERVING, host, "answer"),
        (op::READ_WRITE, ASKING, SERVED_PORT, "question"),
    ] {
        let header = guest.header(op, port, host);
        guest.send(header, data.as_bytes(), [0; 3]);
        guest.run();
    }
    let server = accept().expect("the guest has connected");
    (guest, [client, server])
}

fn take(rings: &mut Rings, step: &Step<'_>, [client, server]: &mut [UnixStream; 2]) {
    let Rings { memory, queues, .. } = rings;
    match *step {
        Step::Describe {
            tx,
            index,
            mut descriptor,
            in_memory,
        } => {
            if in_memory {
                descriptor.address %= MEMORY_LEN as u64;
            }
            queues[usize::from(tx)].describe(memory, u16::from(index), descriptor);
        }
        Step::Offer { tx, head } => queues[usize::from(tx)].offer(memory, u16::from(head)),
        Step::Announce { tx, count } => queues[usize::from(tx)].announce(memory, count),
        Step::Memory {
            address,
            bytes: Chunk(bytes),
        } => {
            let _ = memory.write(bytes, GuestAddress(u64::from(address) % MEMORY_LEN as u64));
        }
        Step::Packet {
            op,
            len,
            data: Chunk(data),
        } => {
            let header = Header {
                src_cid: GUEST_CID,
                dst_cid: HOST_CID,
                src_port: ASKING,
                dst_port: SERVED_PORT,
                len,
                socket_type: STREAM,
                op: u16::from(op),
                ..Header::default()
            };
            let bytes = [&header.to_bytes(), data].concat();
            let descriptor = Descriptor {
                address: PACKET,
                len: bytes.len() as u32,
                flags: 0,
                next: 0,
            };
            memory.write_slice(&bytes, GuestAddress(PACKET)).unwrap();
            queues[1].describe(memory, 0, descriptor);
            queues[1].offer(memory, 0);
        }
        Step::Data { to_server, len } => {
            let stream = if to_server { server } else { client };
            let _ = stream.write(&vec![7; usize::from(len)]);
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let (guest, mut streams) = connected(input.event_idx);
    let mut rings = guest.into_rings();
    for step in &input.steps.0 {
        take(&mut rings, step, &mut streams);
        rings.run();
    }
    drop(rings);
    // The guest may have connected again, and the next one starts from nothing.
    std::iter::from_fn(accept).for_each(drop);
});
