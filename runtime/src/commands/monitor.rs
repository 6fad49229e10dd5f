//! `bulkhead monitor` (internal): stands for a container in the background.

use std::path::PathBuf;
use std::time::Duration;

use super::{pid_file, pidfd_socket};
use crate::background::Reporter;
use crate::context::Context;
use crate::error::Error;
use crate::id::ContainerId;
use crate::monitor::{self, Job, MonitorError, Terminal, Until};

/// Arguments of `monitor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to tell how far the container got
    #[arg(long, value_name = "FILE")]
    report: PathBuf,
    /// The bundle's directory
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// Write this process's pid to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send this process's pidfd to this socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Send the container's terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// How long the guest may take to be up
    #[arg(long, value_name = "SECONDS", value_parser = super::parse_seconds)]
    start_timeout: Duration,
    /// Do not wait for `start`
    #[arg(long)]
    start: bool,
    /// The container's id
    id: String,
}

/// Runs the container; its exit code is this process's.
pub(crate) fn execute(context: &Context, args: Args) -> Result<u8, Error> {
    super::name_process(c"bulkhead-mon");
    let mut reporter = Reporter::open(&args.report).map_err(Error::io("open", &args.report))?;
    let job = Job {
        id: ContainerId::parse(&args.id)?,
        bundle: args.bundle,
        until: if args.start {
            Until::Started
        } else {
            Until::Created
        },
        terminal: args.console_socket.map_or(Terminal::None, Terminal::Socket),
        remove: false,
        cgroup_driver: context.cgroup_driver(),
        start_timeout: args.start_timeout,
        started: context.started,
        timeline: None,
    };
    super::leave_session();
    let ready = || {
        pid_file::write(args.pid_file.as_deref())
            .map_err(MonitorError::io("write the pid file"))?;
        pidfd_socket::send(args.pidfd_socket.as_deref(), pidfd_socket::Kind::Container)
            .map_err(MonitorError::io("send a pidfd to the pidfd socket"))?;
        reporter
            .ready()
            .map_err(MonitorError::io("tell that the container is ready"))?;
        context
            .leave_stderr(matches!(job.terminal, Terminal::Socket(_)))
            .map_err(MonitorError::io("part with standard error"))
    };
    match monitor::run(&context.store, &job, ready) {
        Ok(code) => Ok(code),
        Err(error) => {
            let code = error.exit_code();
            if reporter.failed(&error, code) {
                // The command that waits for this one tells the user.
                return Ok(code.unwrap_or(crate::FAILURE));
            }
            Err(error.into())
        }
    }
}
