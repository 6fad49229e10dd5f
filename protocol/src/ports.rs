//! vsock ports with a fixed meaning.

/// Host port that the agent dials once, when it is up. The connection then
/// carries requests of the sandbox's owner; its first frame from the guest is
/// [`Hello`](crate::Hello).
pub const SANDBOX_OWNER: u32 = 1024;

/// Guest port on which the agent takes further clients (`exec`, `kill`, …).
/// Each connection opens with the agent's [`Hello`](crate::Hello).
pub const AGENT: u32 = 1024;

/// First host port for standard streams. A client listens on any port from
/// here up and names it in [`Stdio`](crate::Stdio); the agent dials it once
/// for each stream.
pub const STREAMS_START: u32 = 0x1_0000;
