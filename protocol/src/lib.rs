//! What host and guest share: the agent's RPC.
//!
//! One connection carries [frames](frame): a length and a JSON document. A
//! client sends [`Request`]s, each with an id of its choosing, and may send
//! the next before the last is answered; the agent answers each exactly once,
//! in any order. `docs/protocol.md` describes the exchange.
//!
//! This crate is plain data and its encoding: it opens nothing and waits for
//! nothing but the reader it is given.
#![forbid(unsafe_code)]

pub mod frame;
mod json;
mod message;
mod network;
pub mod ports;
mod usage;
pub mod weight;

pub use json::Json;
pub use message::{
    ContainerState, ContainerStatus, CreateContainer, ErrorKind, ExecProcess, ExitStatus, Hello,
    ProcessId, RemoteError, Reply, Request, RequestBody, Response, Stamps, Stdio, StreamKind,
    WindowSize,
};
pub use network::{Address, Interface, Neighbour, Network, Route};
pub use usage::{DeviceUsage, Level, ProcessInfo, Usage};

/// Version of the protocol; the agent and the runtime are built together, so
/// anything but equality is an installation error.
pub const VERSION: u32 = 1;
