//! The requests a client sends to the agent, and what the agent answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Json, Network, ProcessInfo, Usage};

/// The agent's first frame on every connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`](crate::VERSION) the agent was built with.
    pub version: u32,
    /// Release of the guest's kernel, as in `uname -r`.
    pub kernel_release: String,
    /// When the agent came up.
    pub stamps: Stamps,
}

/// Moments of the guest's start, read from its time stamp counter. The host
/// knows the guest's TSC offset and so needs no agreement on clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamps {
    /// First instructions of the agent.
    pub started_tsc: u64,
    /// About to dial the host.
    pub ready_tsc: u64,
}

/// One request. Several may be under way on a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client, returned in the [`Reply`].
    pub id: u64,
    /// What is asked.
    pub body: RequestBody,
}

/// What a client can ask of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestBody {
    /// Sets up the guest's network devices. Answered by [`Response::Done`].
    Network(Box<Network>),
    /// Prepares a container and its init process, which waits for
    /// [`Start`](Self::Start). Answered by [`Response::Created`].
    Create(Box<CreateContainer>),
    /// Lets the container's init process execute its command. Answered by
    /// [`Response::Started`] once `execve` succeeded.
    Start {
        /// The container.
        container: String,
    },
    /// Starts a further process in a container that is created or running.
    /// Answered by [`Response::Started`] once `execve` succeeded. When the
    /// connection ends before the process does, the process is killed.
    Exec(Box<ExecProcess>),
    /// Sends a signal. Answered by [`Response::Done`].
    Signal {
        /// The process.
        process: ProcessId,
        /// Linux signal number.
        signal: u8,
        /// Send it to every process of the container.
        all: bool,
    },
    /// Sets the size of a process's terminal. Answered by [`Response::Done`].
    Resize {
        /// The process.
        process: ProcessId,
        /// The new size.
        size: WindowSize,
    },
    /// Waits for a process to end. Answered by [`Response::Exited`] at that
    /// time, or at once if it is over.
    Wait {
        /// The process.
        process: ProcessId,
    },
    /// Asks for a container's state. Answered by [`Response::Status`].
    Status {
        /// The container.
        container: String,
    },
    /// Stops all processes of a container, or lets them go on. Answered by
    /// [`Response::Done`] once it is so.
    Freeze {
        /// The container.
        container: String,
        /// Whether they are to stand still.
        frozen: bool,
    },
    /// Changes a container's limits. Answered by [`Response::Done`].
    Limit {
        /// The container.
        container: String,
        /// An object like the configuration's `linux.resources`; what is absent
        /// stays as it is.
        resources: Json,
    },
    /// Asks what a container uses. Answered by [`Response::Usage`].
    Usage {
        /// The container.
        container: String,
    },
    /// Asks which processes there are in a container. Answered by
    /// [`Response::Processes`].
    Processes {
        /// The container.
        container: String,
    },
    /// Forgets a stopped container and frees what it held in the guest.
    /// Answered by [`Response::Done`].
    Delete {
        /// The container.
        container: String,
        /// Kill it first if it runs.
        force: bool,
    },
    /// Ends the guest: containers are killed, file systems synced, the power
    /// switched off. There is no reply; the connection ends.
    Shutdown,
}

/// Everything the agent needs to make a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreateContainer {
    /// The container's id, unique in the sandbox.
    pub container: String,
    /// The bundle's configuration, a `config.json`. The host has replaced host
    /// paths by guest paths (`root.path`, sources of bind mounts) and removed
    /// what only concerns the host.
    pub spec: Json,
    /// The seccomp profile, compiled on the host: an array of
    /// `struct sock_filter`, in the guest's byte order. The agent ignores
    /// `spec.linux.seccomp`.
    #[serde(
        default,
        with = "base64_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub seccomp_filter: Option<Vec<u8>>,
    /// Standard streams of the init process.
    pub stdio: Stdio,
}

/// A further process for a running container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecProcess {
    /// The container, and the name the client gives the process.
    pub process: ProcessId,
    /// What to run: an object like the configuration's `process`.
    pub spec: Json,
    /// See [`CreateContainer::seccomp_filter`].
    #[serde(
        default,
        with = "base64_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub seccomp_filter: Option<Vec<u8>>,
    /// Standard streams of the process.
    pub stdio: Stdio,
    /// A cgroup below the container's that it is to run in, as a path; `None` for the
    /// one that the container's init is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
}

/// Names a process: a container's init, or one that an `exec` added.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The container.
    pub container: String,
    /// `None` for the container's init.
    pub exec: Option<String>,
}

/// Which standard streams a process gets, and where the host waits for them.
/// A stream that is absent is `/dev/null` in the guest.
///
/// For each one that is present the agent dials host port `port` and sends
/// the stream's [`StreamKind`] as a single byte; from there on the connection
/// carries the stream's bytes and nothing else. End of file travels as the
/// shutdown of one direction. With a terminal there is one stream,
/// [`StreamKind::Terminal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    /// Host port on which the client listens.
    pub port: u32,
    /// Streams without a terminal.
    pub stdin: bool,
    /// See [`stdin`](Self::stdin).
    pub stdout: bool,
    /// See [`stdin`](Self::stdin).
    pub stderr: bool,
    /// A terminal of this size instead of the three streams.
    pub terminal: Option<WindowSize>,
}

impl Stdio {
    /// The streams that the agent will dial for.
    pub fn streams(&self) -> impl Iterator<Item = StreamKind> {
        let pipes = self.terminal.is_none();
        [
            (pipes && self.stdin, StreamKind::Stdin),
            (pipes && self.stdout, StreamKind::Stdout),
            (pipes && self.stderr, StreamKind::Stderr),
            (!pipes, StreamKind::Terminal),
        ]
        .into_iter()
        .filter_map(|(wanted, kind)| wanted.then_some(kind))
    }
}

/// First byte on a stream's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StreamKind {
    /// Host to guest.
    Stdin = 0,
    /// Guest to host.
    Stdout = 1,
    /// Guest to host.
    Stderr = 2,
    /// Both directions.
    Terminal = 3,
}

impl StreamKind {
    /// Decodes the first byte of a stream's connection.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Stdin, Self::Stdout, Self::Stderr, Self::Terminal]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// The answer to the [`Request`] of the same id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's id.
    pub id: u64,
    /// What came of it.
    pub result: Result<Response, RemoteError>,
}

/// What comes of a request that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Done, and there is nothing to tell.
    Done,
    /// The container exists.
    Created {
        /// Its init process's pid, in the guest's initial pid namespace.
        pid: u32,
    },
    /// The process runs its command.
    Started {
        /// Its pid, in the guest's initial pid namespace.
        pid: u32,
        /// The guest's time stamp counter when `execve` had succeeded.
        exec_tsc: u64,
    },
    /// The process ended. What it wrote has been handed to its streams, and
    /// what it wrote to files has reached the host.
    Exited(ExitStatus),
    /// A container's state.
    Status(ContainerStatus),
    /// What a container uses.
    Usage(Box<Usage>),
    /// A container's processes.
    Processes(Vec<ProcessInfo>),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// It called `exit` with this code.
    Code(u8),
    /// A signal of this number killed it.
    Signal(u8),
}

impl ExitStatus {
    /// The code by a shell's convention: 128 + n for a signal.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// A container as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Where it is in its life.
    pub state: ContainerState,
    /// Its init process's pid, in the guest's initial pid namespace.
    pub pid: u32,
    /// How init ended, if it did.
    pub exit: Option<ExitStatus>,
}

/// Where a container is in its life, as in the OCI runtime specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerState {
    /// Init waits for `start`.
    Created,
    /// Init runs its command.
    Running,
    /// Init ended.
    Stopped,
}

/// Why the agent could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    /// What a program can act on.
    pub kind: ErrorKind,
    /// What was tried, on what, and how it failed.
    pub message: String,
}

/// The kinds of [`RemoteError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// No such container or process.
    NotFound,
    /// The id is in use.
    AlreadyExists,
    /// The container is in a state that does not allow this.
    InvalidState,
    /// The configuration asks for something impossible.
    InvalidConfig,
    /// The command does not exist: exit code 127.
    CommandNotFound,
    /// The command exists but may not, or cannot, be executed: exit code 126.
    CommandNotExecutable,
    /// A system call failed.
    Internal,
}

mod base64_option {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    // The signature is serde's.
    #[allow(clippy::ref_option)]
    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_some(&STANDARD.encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| STANDARD.decode(text).map_err(D::Error::custom))
            .transpose()
    }
}
