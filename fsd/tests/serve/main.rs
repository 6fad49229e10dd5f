//! The server as a process, with a client in a VMM's and a guest's place.
//!
//! Mounting takes `CAP_SYS_ADMIN`; without it the tests say so and pass.
#![forbid(unsafe_code)]

mod client;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};

use bulkhead_fsd::Export;
use client::{Client, ROOT, SUBMOUNT};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

/// Tells the test below what to export: `NAME=PATH`, or `NAME!PATH` to refuse
/// writes, separated by newlines.
const EXPORTS: &str = "BULKHEAD_TEST_EXPORTS";

/// The server gives up its privileges for good and must have a single thread:
/// it is this program again, and there is no harness with threads of its own.
fn main() {
    if let Ok(exports) = std::env::var(EXPORTS) {
        return serve(&exports);
    }
    let capabilities = rustix::thread::capabilities(None).expect("capget");
    if !capabilities.effective.contains(CapabilitySet::SYS_ADMIN) {
        println!("skipped: no CAP_SYS_ADMIN");
        return;
    }
    let tests: &[(&str, fn())] = &[
        (
            "directories_and_files_are_served",
            directories_and_files_are_served,
        ),
        ("server_ends_with_its_client", server_ends_with_its_client),
        (
            "server_ends_if_the_client_never_spoke",
            server_ends_if_the_client_never_spoke,
        ),
        (
            "writes_are_refused_where_they_should_be",
            writes_are_refused_where_they_should_be,
        ),
        (
            "files_belong_to_the_guests_user",
            files_belong_to_the_guests_user,
        ),
        (
            "privileged_bits_go_with_a_write",
            privileged_bits_go_with_a_write,
        ),
        (
            "names_do_not_lead_out_of_the_exports",
            names_do_not_lead_out_of_the_exports,
        ),
        (
            "many_files_take_few_descriptors",
            many_files_take_few_descriptors,
        ),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
}

fn serve(exports: &str) {
    let parse = |line: &str| {
        let (name, source) = line.split_once(['=', '!']).unwrap();
        Export {
            name: name.into(),
            source: source.into(),
            recursive: true,
            read_only: line.contains('!'),
            id_map: None,
        }
    };
    let exports: Vec<_> = exports.lines().map(parse).collect();
    let listener = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    bulkhead_fsd::serve(UnixListener::from(listener), &exports).unwrap();
}

struct Server {
    child: Child,
    stream: Option<UnixStream>,
    directory: tempfile::TempDir,
}

impl Server {
    /// In `exports`, `{}` stands for the server's directory.
    fn start(exports: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::write(directory.path().join("root/file"), "content").unwrap();
        fs::write(directory.path().join("single"), "one file").unwrap();
        fs::write(directory.path().join("secret"), "secret").unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let stream = UnixStream::connect(&socket).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .env(
                EXPORTS,
                exports.replace("{}", directory.path().to_str().unwrap()),
            )
            .stdin(OwnedFd::from(listener))
            .spawn()
            .unwrap();
        Self {
            child,
            stream: Some(stream),
            directory,
        }
    }

    fn client(&mut self) -> Client {
        Client::connect(self.stream.take().unwrap())
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .unwrap()
            .count()
    }
}

fn directories_and_files_are_served() {
    let mut server = Server::start("box/rootfs={}/root\nbox/0={}/single");
    let mut client = server.client();
    let file = client.walk("box/rootfs/file").unwrap();
    assert_eq!(client.read(file.node).unwrap(), b"content");
    let single = client.walk("box/0").unwrap();
    assert_eq!(client.read(single.node).unwrap(), b"one file");

    let root = client.walk("box/rootfs").unwrap();
    assert_eq!(root.flags & SUBMOUNT, SUBMOUNT, "{root:?}");
    client.mkdir(root.node, "made").unwrap();
    assert!(server.path().join("root/made").is_dir());
}

fn server_ends_with_its_client() {
    let mut server = Server::start("box={}/root");
    drop(server.client());
    assert!(server.child.wait().unwrap().success());
}

fn server_ends_if_the_client_never_spoke() {
    let mut server = Server::start("box={}/root");
    server.stream = None;
    assert!(server.child.wait().unwrap().success());
}

fn writes_are_refused_where_they_should_be() {
    let mut server = Server::start("box!{}/root");
    let mut client = server.client();
    let root = client.walk("box").unwrap();
    assert_eq!(
        client.mkdir(root.node, "made"),
        Err(Errno::ROFS.raw_os_error())
    );
    assert_eq!(client.mkdir(ROOT, "made"), Err(Errno::ROFS.raw_os_error()));
    assert!(!server.path().join("root/made").exists());
}

fn files_belong_to_the_guests_user() {
    let mut server = Server::start("box={}/root");
    fs::set_permissions(server.path().join("root"), PermissionsExt::from_mode(0o777)).unwrap();
    let mut client = server.client();
    let root = client.walk("box").unwrap();
    client.user = 1234;
    client.mkdir(root.node, "made").unwrap();
    let made = fs::metadata(server.path().join("root/made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (1234, 1234));
}

fn privileged_bits_go_with_a_write() {
    let mut server = Server::start("box={}/root");
    let path = server.path().join("root/file");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o4755)).unwrap();
    let mut client = server.client();
    let file = client.walk("box/file").unwrap();
    client.truncate(file.node).unwrap();
    let file_now = fs::metadata(&path).unwrap();
    assert_eq!((file_now.len(), file_now.mode() & 0o7777), (0, 0o755));
    client
        .set_attribute(file.node, "user.note", "kept")
        .unwrap();
    let mut value = [0; 8];
    let len = rustix::fs::getxattr(&path, "user.note", &mut value).unwrap();
    assert_eq!(&value[..len], b"kept");
}

fn names_do_not_lead_out_of_the_exports() {
    let mut server = Server::start("box={}/root");
    let mut client = server.client();
    let root = client.walk("box").unwrap();
    for name in [
        "../secret",
        "..",
        "../../secret",
        "/etc/passwd",
        "file/../../secret",
    ] {
        let found = client.lookup(root.node, name);
        // What can be named this way is at most the exports' own directory.
        let is_file = |mode: u32| mode & 0o170_000 == 0o100_000;
        assert!(
            !found.as_ref().is_ok_and(|e| is_file(e.mode)),
            "{name}: {found:?}"
        );
        let path = format!("{name}/made");
        let _ = client.mkdir(root.node, &path);
    }
    let entries: Vec<_> = fs::read_dir(server.path()).unwrap().flatten().collect();
    assert_eq!(entries.len(), 4, "{entries:?}");
}

fn many_files_take_few_descriptors() {
    const FILES: usize = 5000;
    let mut server = Server::start("box={}/root");
    for n in 0..FILES {
        fs::write(server.path().join(format!("root/{n}")), "").unwrap();
    }
    let mut client = server.client();
    let root = client.walk("box").unwrap();
    for n in 0..FILES {
        client.lookup(root.node, &n.to_string()).unwrap();
    }
    let descriptors = server.descriptors();
    assert!(
        descriptors < 100,
        "{descriptors} descriptors for {FILES} files"
    );
}
