//! The device as its driver and the host's programs see it, and the state of
//! one connection by itself.

mod closing;
mod connecting;
mod connection;
mod driver;
mod flow;
mod hostile;
