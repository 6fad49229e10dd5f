//! `bulkhead create`: a container that waits for `start`.

use super::ContainerArgs;
use crate::background;
use crate::context::{Context, absolute};
use crate::error::Error;
use crate::id::ContainerId;
use crate::installation;
use crate::monitor::{MonitorError, Until};

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
    background::start("monitor", |command| {
        context.pass_on(command)?;
        installation::pass_on(command).map_err(MonitorError::from)?;
        command.arg("--bundle").arg(absolute(&args.bundle)?);
        command
            .arg("--start-timeout")
            .arg(args.start_timeout.as_secs_f64().to_string());
        for (option, path) in [
            ("--pid-file", &args.pid_file),
            ("--pidfd-socket", &args.pidfd_socket),
            ("--console-socket", &args.console_socket),
        ] {
            if let Some(path) = path {
                command.arg(option).arg(absolute(path)?);
            }
        }
        if until == Until::Started {
            command.arg("--start");
        }
        command.arg("--").arg(id.as_str());
        Ok::<_, Error>(())
    })?;
    Ok(0)
}
