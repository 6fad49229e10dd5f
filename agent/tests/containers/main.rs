//! Containers, made by the agent as it is in a guest but for vsock, which Unix
//! sockets stand in for. Needs root and cgroup v2 with its controllers; where
//! those are missing each test says so and passes:
//! `cargo xtask host -- TEST-PROGRAM` provides them.

/// Starts an agent, or ends the test with the reason why it cannot run here.
macro_rules! agent_or_skip {
    () => {
        match crate::client::unsuitable() {
            None => crate::client::TestAgent::start(),
            Some(reason) => {
                eprintln!("skipped: {reason}");
                return;
            }
        }
    };
}

/// Ends the test where cgroups cannot limit anything.
macro_rules! controllers_or_skip {
    () => {
        if !crate::client::has_controllers() {
            eprintln!("skipped: needs cgroup v2's controllers");
            return;
        }
    };
}

/// Ends the test where no user namespace can be made, as in a chroot.
macro_rules! user_namespaces_or_skip {
    () => {
        if !crate::client::has_user_namespaces() {
            eprintln!("skipped: needs user namespaces");
            return;
        }
    };
}

mod bundle;
mod client;
mod environment;
mod exec;
mod failures;
mod lifecycle;
mod limits;
mod streams;
