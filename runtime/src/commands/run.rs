//! `bulkhead run`: a container from its creation to its end.

use std::path::PathBuf;

use super::create::in_background;
use super::{ContainerArgs, pid_file, pidfd_socket};
use crate::context::Context;
use crate::error::Error;
use crate::id::ContainerId;
use crate::monitor::{self, Job, MonitorError, Terminal, Until};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    container: ContainerArgs,
    /// Return as soon as the container runs
    #[arg(long, short, conflicts_with = "timeline")]
    detach: bool,
    /// Keep the container's record when it is over, until `delete`
    #[arg(long)]
    keep: bool,
    /// Write where the time of the start went to this file
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
    /// The container's id
    id: String,
}

/// Runs the container; its exit code is the command's.
pub(crate) fn execute(context: &Context, args: Args) -> Result<u8, Error> {
    args.container.check()?;
    let id = ContainerId::parse(&args.id)?;
    if args.detach {
        return in_background(context, &id, &args.container, Until::Started);
    }
    if args.container.console_socket.is_some() {
        return Err(MonitorError::UnwantedConsole.into());
    }
    let job = Job {
        id,
        bundle: args.container.bundle,
        until: Until::Started,
        terminal: Terminal::Inherited,
        remove: !args.keep,
        cgroup_driver: context.cgroup_driver(),
        start_timeout: args.container.start_timeout,
        started: context.started,
        timeline: args.timeline,
    };
    let (pid_file, socket) = (args.container.pid_file, args.container.pidfd_socket);
    let ready = || {
        pid_file::write(pid_file.as_deref()).map_err(MonitorError::io("write the pid file"))?;
        pidfd_socket::send(socket.as_deref(), pidfd_socket::Kind::Container)
            .map_err(MonitorError::io("send a pidfd to the pidfd socket"))
    };
    Ok(monitor::run(&context.store, &job, ready)?)
}
