//! A client of an agent that runs as a process of its own.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use bulkhead_protocol::{
    CreateContainer, ExecProcess, ExitStatus, Hello, Json, ProcessId, RemoteError, Reply, Request,
    RequestBody, Response, Stdio, StreamKind, WindowSize, frame, ports,
};
use serde_json::Value;
use tempfile::TempDir;

/// An agent, the host's side of its sockets, and a connection.
pub(crate) struct TestAgent {
    process: Child,
    directory: TempDir,
    cgroup: PathBuf,
    pub(crate) connection: Connection,
    next_port: u32,
}

/// How a process went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Why these tests cannot run on this machine, if they cannot.
pub(crate) fn unsuitable() -> Option<&'static str> {
    if !rustix::process::getuid().is_root() {
        Some("needs root")
    } else if !fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false) {
        Some("needs cgroup v2 (cargo xtask host has it)")
    } else {
        None
    }
}

/// Whether the unified hierarchy has the controllers that limit something.
pub(crate) fn has_controllers() -> bool {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    ["cpu", "memory", "pids", "io"]
        .iter()
        .all(|name| controllers.contains(name))
}

/// Whether a user namespace can be made: the kernel refuses it in a chroot.
pub(crate) fn has_user_namespaces() -> bool {
    let status = Command::new("unshare").args(["--user", "true"]).status();
    status.is_ok_and(|status| status.success())
}

impl TestAgent {
    pub(crate) fn start() -> Self {
        let directory = TempDir::with_prefix("agent-test-").unwrap();
        let cgroup = Path::new("/sys/fs/cgroup").join(directory.path().file_name().unwrap());
        fs::create_dir(&cgroup).unwrap();
        let listener = listen(directory.path(), ports::SANDBOX_OWNER);
        let process = Command::new(example("unix_agent"))
            .arg(directory.path())
            .arg(&cgroup)
            .spawn()
            .unwrap();
        let (socket, _) = listener.accept().unwrap();
        Self {
            process,
            directory,
            cgroup,
            connection: Connection::new(socket),
            next_port: ports::STREAMS_START,
        }
    }

    /// A further connection.
    pub(crate) fn connect(&self) -> Connection {
        let path = self
            .directory
            .path()
            .join(format!("guest_{}", ports::AGENT));
        Connection::new(UnixStream::connect(path).unwrap())
    }

    pub(crate) fn listen(&mut self) -> (u32, UnixListener) {
        self.next_port += 1;
        (
            self.next_port,
            listen(self.directory.path(), self.next_port),
        )
    }

    pub(crate) fn agent_pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Creates, starts and awaits a container, without input.
    pub(crate) fn run(&mut self, id: &str, config: &Value) -> Result<Outcome, RemoteError> {
        let started = self.start_container(id, config, None)?;
        Ok(started.finish(&mut self.connection, b""))
    }

    /// Creates and starts a container.
    pub(crate) fn start_container(
        &mut self,
        id: &str,
        config: &Value,
        terminal: Option<WindowSize>,
    ) -> Result<Started, RemoteError> {
        let (port, listener) = self.listen();
        let stdio = stdio(port, terminal);
        let create = self
            .connection
            .send(RequestBody::Create(Box::new(CreateContainer {
                container: id.into(),
                spec: Json::new(config).unwrap(),
                seccomp_filter: None,
                stdio,
            })));
        let start = self.connection.send(RequestBody::Start {
            container: id.into(),
        });
        let name = ProcessId {
            container: id.into(),
            exec: None,
        };
        let created = self.connection.receive(create);
        let started = self.connection.receive(start);
        created?;
        started?;
        Ok(Started::new(name, &listener, &stdio))
    }

    /// Starts a further process.
    pub(crate) fn start_exec(
        &mut self,
        id: &str,
        name: &str,
        process: &Value,
        terminal: Option<WindowSize>,
    ) -> Result<Started, RemoteError> {
        let (port, listener) = self.listen();
        let stdio = stdio(port, terminal);
        let name = ProcessId {
            container: id.into(),
            exec: Some(name.into()),
        };
        self.connection
            .request(RequestBody::Exec(Box::new(ExecProcess {
                process: name.clone(),
                spec: Json::new(process).unwrap(),
                seccomp_filter: None,
                stdio,
                cgroup: None,
            })))?;
        Ok(Started::new(name, &listener, &stdio))
    }

    pub(crate) fn delete(&mut self, id: &str, force: bool) -> Result<Response, RemoteError> {
        self.connection.request(RequestBody::Delete {
            container: id.into(),
            force,
        })
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let _ = self.process.kill();
        let _ = self.process.wait();
        for entry in fs::read_dir(&self.cgroup).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&self.cgroup);
    }
}

/// A process that executes its command, and its streams.
pub(crate) struct Started {
    pub(crate) name: ProcessId,
    pub(crate) streams: HashMap<StreamKind, UnixStream>,
}

impl Started {
    fn new(name: ProcessId, listener: &UnixListener, stdio: &Stdio) -> Self {
        let streams = stdio
            .streams()
            .map(|_| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut kind = [0];
                stream.read_exact(&mut kind).unwrap();
                (StreamKind::from_byte(kind[0]).unwrap(), stream)
            })
            .collect();
        Self { name, streams }
    }

    pub(crate) fn stream(&mut self, kind: StreamKind) -> &mut UnixStream {
        self.streams.get_mut(&kind).unwrap()
    }

    /// Writes the input, reads the output to its end, and asks how it ended.
    pub(crate) fn finish(mut self, connection: &mut Connection, input: &[u8]) -> Outcome {
        if let Some(stdin) = self.streams.get_mut(&StreamKind::Stdin) {
            let _ = stdin.write_all(input);
            let _ = stdin.shutdown(Shutdown::Write);
        }
        let mut read = |kind| {
            let mut bytes = Vec::new();
            if let Some(stream) = self.streams.get_mut(&kind) {
                stream.read_to_end(&mut bytes).unwrap();
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let stdout = match read(StreamKind::Stdout) {
            text if text.is_empty() => read(StreamKind::Terminal),
            text => text,
        };
        let stderr = read(StreamKind::Stderr);
        Outcome {
            exit: connection.wait(self.name),
            stdout,
            stderr,
        }
    }
}

/// A connection to the agent.
pub(crate) struct Connection {
    socket: UnixStream,
    replies: HashMap<u64, Result<Response, RemoteError>>,
    last_id: u64,
}

impl Connection {
    fn new(mut socket: UnixStream) -> Self {
        let hello: Option<Hello> = frame::read(&mut socket).unwrap();
        assert_eq!(hello.unwrap().version, bulkhead_protocol::VERSION);
        Self {
            socket,
            replies: HashMap::new(),
            last_id: 0,
        }
    }

    pub(crate) fn send(&mut self, body: RequestBody) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        frame::write(&mut self.socket, &Request { id, body }).unwrap();
        id
    }

    /// Waits for the answer to one request, and keeps those to others.
    pub(crate) fn receive(&mut self, id: u64) -> Result<Response, RemoteError> {
        loop {
            if let Some(result) = self.replies.remove(&id) {
                return result;
            }
            let reply: Reply = frame::read(&mut self.socket)
                .unwrap()
                .expect("the agent closed the connection");
            self.replies.insert(reply.id, reply.result);
        }
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Waits for the agent to close the connection, or to send something.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.socket.read(&mut [0]), Ok(0) | Err(_))
    }

    pub(crate) fn request(&mut self, body: RequestBody) -> Result<Response, RemoteError> {
        let id = self.send(body);
        self.receive(id)
    }

    pub(crate) fn wait(&mut self, process: ProcessId) -> ExitStatus {
        match self.request(RequestBody::Wait { process }) {
            Ok(Response::Exited(exit)) => exit,
            other => panic!("unexpected answer: {other:?}"),
        }
    }
}

fn stdio(port: u32, terminal: Option<WindowSize>) -> Stdio {
    Stdio {
        port,
        stdin: true,
        stdout: true,
        stderr: true,
        terminal,
    }
}

fn listen(directory: &Path, port: u32) -> UnixListener {
    UnixListener::bind(directory.join(format!("host_{port}"))).unwrap()
}

/// Built beside the tests.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples")
        .join(name)
}
