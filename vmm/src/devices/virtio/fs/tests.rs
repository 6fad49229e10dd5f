//! Tests of the device against a backend that only plays its part of the
//! protocol.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Fs;
use crate::devices::virtio::device::{Activation, ActiveQueue, VirtioDevice};
use crate::devices::virtio::interrupt::Interrupt;
use crate::event_loop::EventLoop;
use crate::exit::ExitReason;
use crate::memory;
use crate::stop::Stop;

const GET_FEATURES: u32 = 1;
const GET_PROTOCOL_FEATURES: u32 = 15;
const GET_VRING_BASE: u32 = 11;
const REPLY: u32 = 0x4;
const NEED_REPLY: u32 = 0x8;

/// `VERSION_1`, protocol features, indirect descriptors, and one that we do not
/// know how to carry.
const FEATURES: u64 = 1 << 32 | 1 << 30 | 1 << 28 | 1 << 34;
const REPLY_ACK: u64 = 0x8;

/// Answers requests until the connection ends, and returns their numbers.
fn backend(mut stream: UnixStream) -> JoinHandle<Vec<u32>> {
    thread::spawn(move || {
        let mut requests = Vec::new();
        let mut header = [0; 12];
        while stream.read_exact(&mut header).is_ok() {
            let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
            let (request, flags, size) = (word(0), word(4), word(8));
            let mut body = vec![0; size as usize];
            stream.read_exact(&mut body).unwrap();
            requests.push(request);
            let answer = match request {
                GET_FEATURES => FEATURES,
                GET_PROTOCOL_FEATURES => REPLY_ACK,
                GET_VRING_BASE => u64::from(body[0]),
                _ if flags & NEED_REPLY != 0 => 0,
                _ => continue,
            };
            let mut reply = Vec::new();
            reply.extend(request.to_le_bytes());
            reply.extend((1 | REPLY).to_le_bytes());
            reply.extend(8u32.to_le_bytes());
            reply.extend(answer.to_le_bytes());
            stream.write_all(&reply).unwrap();
        }
        requests
    })
}

fn activation() -> Activation {
    let eventfd = || EventFd::new(EFD_NONBLOCK).unwrap();
    let queue = |base| {
        let mut queue = Queue::new(128).unwrap();
        queue
            .try_set_desc_table_address(GuestAddress(base))
            .unwrap();
        queue
            .try_set_avail_ring_address(GuestAddress(base + 0x1000))
            .unwrap();
        queue
            .try_set_used_ring_address(GuestAddress(base + 0x2000))
            .unwrap();
        queue.set_ready(true);
        ActiveQueue {
            queue,
            kick: eventfd(),
        }
    };
    Activation {
        memory: memory::allocate(16 << 20).unwrap(),
        features: 1 << 32,
        queues: vec![queue(0x1_0000), queue(0x2_0000)],
        interrupt: Interrupt::new(eventfd()),
    }
}

#[test]
fn configuration_holds_tag_and_queue_count() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let stop = Stop::new(EventLoop::new().unwrap().handle());
    let fs = Fs::new("shared".into(), ours, stop);
    let mut config = [0xff; 44];
    fs.read_config(0, &mut config);
    assert_eq!(&config[..8], b"shared\0\0");
    assert_eq!(config[36..], [1, 0, 0, 0, 0, 0, 0, 0]);
    fs.read_config(u64::MAX, &mut config);
    assert_eq!(config, [0; 44]);
}

#[test]
fn backend_is_greeted_started_and_stopped() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let backend = backend(theirs);
    let stop = Stop::new(EventLoop::new().unwrap().handle());
    let mut fs = Fs::new("shared".into(), ours, stop.clone());
    assert_eq!(fs.features(), 1 << 32 | 1 << 28);
    let activation = activation();
    let interrupt = activation.interrupt.clone();
    let handler = fs.activate(activation).unwrap();
    assert_eq!(interrupt.status(), 1);
    drop(handler);
    fs.reset();
    drop(fs);
    assert_eq!(stop.requested(), None);

    let greeting = [3, 1, 15, 16];
    let start = [2, 5, 8, 10, 9, 13, 12, 8, 10, 9, 13, 12, 18, 18];
    let end = [18, 18, 11, 11];
    assert_eq!(
        backend.join().unwrap(),
        [&greeting[..], &start, &end].concat()
    );
}

#[test]
fn backend_that_is_gone_stops_the_microvm() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let stop = Stop::new(EventLoop::new().unwrap().handle());
    let mut fs = Fs::new("shared".into(), ours, stop.clone());
    assert_eq!(fs.features(), 0);
    assert!(matches!(
        stop.requested(),
        Some(ExitReason::FsBackendLost { tag, .. }) if tag == "shared"
    ));
    assert!(fs.activate(activation()).is_err());
}

#[test]
fn backend_that_hangs_up_later_stops_the_microvm() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let hang_up = theirs.try_clone().unwrap();
    let backend = backend(theirs);
    let mut event_loop = EventLoop::new().unwrap();
    let stop = Stop::new(event_loop.handle());
    let mut fs = Fs::new("shared".into(), ours, stop.clone());
    fs.features();
    event_loop.add(fs.activate(activation()).unwrap());
    assert_eq!(stop.requested(), None);

    hang_up.shutdown(std::net::Shutdown::Both).unwrap();
    backend.join().unwrap();
    event_loop.run_once().unwrap();
    assert!(matches!(
        stop.requested(),
        Some(ExitReason::FsBackendLost { .. })
    ));
}
