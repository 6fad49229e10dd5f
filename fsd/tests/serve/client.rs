//! What a VMM and a guest's kernel are to the server: a vhost-user frontend
//! with one request queue, and FUSE messages by hand.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemory, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

const MEMORY_SIZE: usize = 1 << 20;
const QUEUE_SIZE: u16 = 16;
/// The first queue is for high priority requests, the second for the others.
const REQUEST_QUEUE: usize = 1;

const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const REQUEST: u64 = 0x1_0000;
const REPLY: u64 = 0x2_0000;
const REPLY_SIZE: u32 = 0x1_0000;

const IN_HEADER_LEN: usize = 40;
const OUT_HEADER_LEN: usize = 16;

/// FUSE's node of the root directory.
pub(crate) const ROOT: u64 = 1;

/// `fuse_attr.flags`: a different file system begins here.
pub(crate) const SUBMOUNT: u32 = 1;

/// A guest's kernel, reduced to what the tests ask.
pub(crate) struct Client {
    frontend: Frontend,
    memory: GuestMemoryMmap,
    kick: EventFd,
    call: EventFd,
    requests: u16,
    /// User and group that the requests are for.
    pub(crate) user: u32,
}

/// What a lookup tells.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) node: u64,
    pub(crate) mode: u32,
    pub(crate) flags: u32,
}

impl Client {
    /// Negotiates, as a VMM does, and says hello, as a guest does.
    pub(crate) fn connect(stream: UnixStream) -> Self {
        let file = rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, MEMORY_SIZE as u64).unwrap();
        let range = (
            GuestAddress(0),
            MEMORY_SIZE,
            Some(FileOffset::new(file.into(), 0)),
        );
        let memory = GuestMemoryMmap::from_ranges_with_files([range]).unwrap();
        let event = || EventFd::new(0).unwrap();
        let mut client = Self {
            frontend: Frontend::from_stream(stream, 2),
            memory,
            kick: event(),
            call: event(),
            requests: 0,
            user: 0,
        };
        client.negotiate();
        client.init();
        client
    }

    fn negotiate(&mut self) {
        let frontend = &mut self.frontend;
        frontend.set_owner().unwrap();
        let offered = frontend.get_features().unwrap();
        let features = offered & (1 << 32 | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits());
        frontend.set_features(features).unwrap();
        frontend.get_protocol_features().unwrap();
        frontend
            .set_protocol_features(VhostUserProtocolFeatures::MQ)
            .unwrap();
        let region = self.memory.iter().next().unwrap();
        let region = VhostUserMemoryRegionInfo::from_guest_region(region).unwrap();
        let base = region.userspace_addr;
        frontend.set_mem_table(&[region]).unwrap();
        frontend.set_vring_num(REQUEST_QUEUE, QUEUE_SIZE).unwrap();
        let rings = VringConfigData {
            queue_max_size: QUEUE_SIZE,
            queue_size: QUEUE_SIZE,
            flags: 0,
            desc_table_addr: base + DESCRIPTORS,
            used_ring_addr: base + USED,
            avail_ring_addr: base + AVAILABLE,
            log_addr: None,
        };
        frontend.set_vring_addr(REQUEST_QUEUE, &rings).unwrap();
        frontend.set_vring_base(REQUEST_QUEUE, 0).unwrap();
        frontend.set_vring_call(REQUEST_QUEUE, &self.call).unwrap();
        frontend.set_vring_kick(REQUEST_QUEUE, &self.kick).unwrap();
        frontend.set_vring_enable(REQUEST_QUEUE, true).unwrap();
    }

    fn init(&mut self) {
        const INIT: u32 = 26;
        // FUSE_INIT_EXT, and in the second word FUSE_SUBMOUNTS is bit 27 of
        // the first.
        const FLAGS: u32 = 1 << 27 | 1 << 30;
        let mut body = Vec::new();
        for word in [7u32, 38, 0, FLAGS, 0] {
            body.extend(word.to_le_bytes());
        }
        body.resize(64, 0);
        self.call(INIT, 0, &body).unwrap();
    }

    /// Looks a name up.
    pub(crate) fn lookup(&mut self, parent: u64, name: &str) -> Result<Entry, i32> {
        const LOOKUP: u32 = 1;
        let reply = self.call(LOOKUP, parent, &with_nul(name))?;
        let word = |at: usize| u32::from_le_bytes(reply[at..at + 4].try_into().unwrap());
        let node = u64::from_le_bytes(reply[..8].try_into().unwrap());
        // fuse_entry_out is 40 bytes before its fuse_attr.
        Ok(Entry {
            node,
            mode: word(40 + 60),
            flags: word(40 + 84),
        })
    }

    /// Looks up one name after the other.
    pub(crate) fn walk(&mut self, path: &str) -> Result<Entry, i32> {
        let mut entry = Err(0);
        let mut node = ROOT;
        for name in path.split('/') {
            let found = self.lookup(node, name)?;
            node = found.node;
            entry = Ok(found);
        }
        entry
    }

    /// Reads the beginning of a file.
    pub(crate) fn read(&mut self, node: u64) -> Result<Vec<u8>, i32> {
        const OPEN: u32 = 14;
        const READ: u32 = 15;
        let opened = self.call(OPEN, node, &[0; 8])?;
        let mut body = opened[..8].to_vec();
        body.extend(0u64.to_le_bytes());
        body.extend(4096u32.to_le_bytes());
        body.resize(40, 0);
        self.call(READ, node, &body)
    }

    /// Empties a file, as a user other than root would: without its
    /// set-user-id bit.
    pub(crate) fn truncate(&mut self, node: u64) -> Result<(), i32> {
        const OPEN: u32 = 14;
        const O_WRONLY_TRUNC: u32 = 0o1001;
        const FUSE_OPEN_KILL_SUIDGID: u32 = 1;
        let mut body = O_WRONLY_TRUNC.to_le_bytes().to_vec();
        body.extend(FUSE_OPEN_KILL_SUIDGID.to_le_bytes());
        self.call(OPEN, node, &body).map(drop)
    }

    /// Sets an extended attribute.
    pub(crate) fn set_attribute(&mut self, node: u64, name: &str, value: &str) -> Result<(), i32> {
        const SETXATTR: u32 = 21;
        let mut body = (value.len() as u32).to_le_bytes().to_vec();
        body.extend(0u32.to_le_bytes());
        body.extend(with_nul(name));
        body.extend(value.bytes());
        self.call(SETXATTR, node, &body).map(drop)
    }

    /// Makes a directory.
    pub(crate) fn mkdir(&mut self, parent: u64, name: &str) -> Result<(), i32> {
        const MKDIR: u32 = 9;
        let mut body = 0o755u32.to_le_bytes().to_vec();
        body.extend(0u32.to_le_bytes());
        body.extend(with_nul(name));
        self.call(MKDIR, parent, &body).map(drop)
    }

    /// One request and its reply; the error is an `errno`.
    fn call(&mut self, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        let mut request = Vec::with_capacity(IN_HEADER_LEN + body.len());
        let len = (IN_HEADER_LEN + body.len()) as u32;
        request.extend(len.to_le_bytes());
        request.extend(opcode.to_le_bytes());
        request.extend(u64::from(self.requests + 1).to_le_bytes());
        request.extend(node.to_le_bytes());
        request.extend(self.user.to_le_bytes());
        request.extend(self.user.to_le_bytes());
        request.resize(IN_HEADER_LEN, 0);
        request.extend(body);
        self.exchange(&request);

        let mut header = [0; OUT_HEADER_LEN];
        self.memory
            .read_slice(&mut header, GuestAddress(REPLY))
            .unwrap();
        let len = u32::from_le_bytes(header[..4].try_into().unwrap()) as usize;
        let error = i32::from_le_bytes(header[4..8].try_into().unwrap());
        let mut reply = vec![0; len - OUT_HEADER_LEN];
        let payload = GuestAddress(REPLY + OUT_HEADER_LEN as u64);
        self.memory.read_slice(&mut reply, payload).unwrap();
        if error == 0 { Ok(reply) } else { Err(-error) }
    }

    /// Puts a request into the queue and waits until it has been used.
    fn exchange(&mut self, request: &[u8]) {
        const NEXT: u16 = 1;
        const WRITE: u16 = 2;
        self.memory
            .write_slice(request, GuestAddress(REQUEST))
            .unwrap();
        self.describe(0, REQUEST, request.len() as u32, NEXT, 1);
        self.describe(1, REPLY, REPLY_SIZE, WRITE, 0);
        // The ring's entries stay 0: the head of each chain.
        self.requests += 1;
        self.memory
            .write_obj(self.requests, GuestAddress(AVAILABLE + 2))
            .unwrap();
        self.kick.write(1).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.used() != self.requests {
            assert!(Instant::now() < deadline, "the server does not answer");
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn used(&self) -> u16 {
        self.memory.read_obj(GuestAddress(USED + 2)).unwrap()
    }

    fn describe(&self, index: u64, address: u64, len: u32, flags: u16, next: u16) {
        let at = DESCRIPTORS + 16 * index;
        self.memory.write_obj(address, GuestAddress(at)).unwrap();
        self.memory.write_obj(len, GuestAddress(at + 8)).unwrap();
        self.memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
        self.memory.write_obj(next, GuestAddress(at + 14)).unwrap();
    }
}

fn with_nul(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}
