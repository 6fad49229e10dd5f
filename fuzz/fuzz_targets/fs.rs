//! The file system device, whose backend answers what it likes.
#![no_main]

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use bulkhead_fuzz::input::{Chunk, Script};
use bulkhead_fuzz::ring::Ring;
use bulkhead_vmm::devices::virtio::device::{Activation, VirtioDevice};
use bulkhead_vmm::devices::virtio::fs::Fs;
use bulkhead_vmm::devices::virtio::interrupt::Interrupt;
use bulkhead_vmm::event_loop::EventLoop;
use bulkhead_vmm::memory::{self, GuestMemory};
use bulkhead_vmm::stop::Stop;
use libfuzzer_sys::fuzz_target;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// An answer of the backend.
#[derive(Arbitrary, Debug)]
enum Answer<'a> {
    /// To the next request that waits for one, with a number.
    Number(u64),
    /// The same, saying that all went well.
    Done,
    /// With any header.
    Any {
        request: u32,
        flags: u32,
        size: u32,
        body: Chunk<'a>,
    },
    /// No answer at all.
    Bytes(Chunk<'a>),
}

/// Requests that wait for an answer, in their order: features, protocol features,
/// start, stop, and where each queue was stopped.
const REQUESTS: [u32; 6] = [1, 15, 18, 18, 11, 11];
/// Flags of an answer: version 1.
const ANSWER: u32 = 1 | 4;

impl Answer<'_> {
    /// Writes what is the answer to a request.
    fn write(&self, request: u32, stream: &mut UnixStream) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut header =
            |words: [u32; 3]| bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        match *self {
            Answer::Number(number) => {
                header([request, ANSWER, 8]);
                bytes.extend(number.to_le_bytes());
            }
            Answer::Done => {
                header([request, ANSWER, 8]);
                bytes.extend([0; 8]);
            }
            Answer::Any {
                request,
                flags,
                size,
                body: Chunk(body),
            } => {
                header([request, flags, size]);
                bytes.extend(body);
            }
            Answer::Bytes(Chunk(any)) => bytes.extend(any),
        }
        stream.write_all(&bytes)
    }
}

fuzz_target!(|answers: Script<Answer<'_>>| {
    static MEMORY: LazyLock<GuestMemory> = LazyLock::new(|| memory::allocate(2 << 20).unwrap());
    let (ours, mut backend) = UnixStream::pair().unwrap();
    for (answer, request) in answers.0.iter().zip(REQUESTS) {
        answer.write(request, &mut backend).unwrap();
    }
    // What is not answered is not waited for.
    backend.shutdown(Shutdown::Write).unwrap();

    let stop = Stop::new(EventLoop::new().unwrap().handle());
    let mut fs = Fs::new("shared".into(), ours, stop.clone());
    let features = fs.features();
    let eventfd = || EventFd::new(EFD_NONBLOCK).unwrap();
    let activation = Activation {
        memory: MEMORY.clone(),
        features,
        queues: vec![Ring::new(0, 128).queue(), Ring::new(0x4000, 128).queue()],
        interrupt: Interrupt::new(eventfd()),
    };
    if fs.activate(activation).is_ok() {
        fs.reset();
    } else {
        assert!(stop.requested().is_some(), "nobody hears of the loss");
    }
});
