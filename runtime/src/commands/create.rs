//! `bulkhead create`: a container that waits for `start`.

use super::{ContainerArgs, write_pid_file};
use crate::background;
use crate::context::{Context, absolute};
use crate::error::Error;
use crate::id::ContainerId;
use crate::monitor::Until;

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What `run` has too.
    #[command(flatten)]
    pub(crate) container: ContainerArgs,
    /// The container's id
    pub(crate) id: String,
}

/// Creates the container and leaves a process behind that stands for it.
pub(crate) fn execute(context: &Context, args: &Args) -> Result<u8, Error> {
    args.container.check()?;
    let id = ContainerId::parse(&args.id)?;
    in_background(context, &id, &args.container, Until::Created)
}

/// Starts a monitor that has this command's standard streams and outlives it.
pub(super) fn in_background(
    context: &Context,
    id: &ContainerId,
    args: &ContainerArgs,
    until: Until,
) -> Result<u8, Error> {
    let bundle = absolute(&args.bundle)?;
    let console_socket = args.console_socket.as_deref().map(absolute).transpose()?;
    let mut passed_on = Ok(());
    let pid = background::start("monitor", |command| {
        passed_on = context.pass_on(command);
        command.arg("--bundle").arg(bundle);
        command
            .arg("--start-timeout")
            .arg(args.start_timeout.as_secs_f64().to_string());
        if let Some(socket) = console_socket {
            command.arg("--console-socket").arg(socket);
        }
        if until == Until::Started {
            command.arg("--start");
        }
        command.arg("--").arg(id.as_str());
    });
    passed_on?;
    let pid = pid?;
    if let Some(path) = &args.pid_file {
        write_pid_file(path, pid).map_err(Error::io("write the pid file", path))?;
    }
    Ok(0)
}
