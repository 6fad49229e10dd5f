//! The guest's agent: PID 1 of a sandbox.
//!
//! It makes containers from OCI configurations and serves the host's requests.
#![deny(unsafe_code)]

mod agent;
pub mod boot;
mod cgroup;
mod child;
mod config;
mod error;
mod event;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guest;
mod network;
mod plan;
mod processes;
mod stdio;
mod stream;
#[allow(unsafe_code)]
mod sys;
mod transport;

pub use agent::{Agent, AgentError, Settings};
pub use transport::{Transport, Vsock};
