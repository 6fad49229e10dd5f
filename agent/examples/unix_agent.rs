//! The agent with Unix sockets in place of vsock: runs the container code
//! without a virtual machine, for tests.
//!
//! `unix_agent DIRECTORY CGROUP`: host port N is the socket `host_N` in the
//! directory, guest port N is `guest_N`; containers' cgroups are made in CGROUP.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use bulkhead_agent::{Agent, Settings, Transport};
use bulkhead_protocol::{Hello, Stamps, VERSION};
use rustix::process::{Resource, getpid, getrlimit, set_child_subreaper, setrlimit};

struct UnixSockets(PathBuf);

impl Transport for UnixSockets {
    fn dial(&self, port: u32) -> io::Result<OwnedFd> {
        let socket = UnixStream::connect(self.0.join(format!("host_{port}")))?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    fn listen(&self, port: u32) -> io::Result<OwnedFd> {
        let socket = UnixListener::bind(self.0.join(format!("guest_{port}")))?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(directory), Some(cgroups)) = (args.next(), args.next()) else {
        return Err("usage: unix_agent DIRECTORY CGROUP".into());
    };
    // As PID 1 has it.
    set_child_subreaper(Some(getpid()))?;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let mut agent = Agent::new(Settings {
        transport: Box::new(UnixSockets(directory)),
        cgroups,
        hello: Hello {
            version: VERSION,
            kernel_release: "test".into(),
            stamps: Stamps {
                started_tsc: 0,
                ready_tsc: 0,
            },
        },
    })?;
    Ok(agent.run()?)
}
