//! `bulkhead exec`: a further process in a container.

mod process;

use std::path::PathBuf;

use oci_spec::runtime::Spec;

use super::{pid_file, pidfd_socket};
use crate::background::{self, Reporter};
use crate::context::{Context, absolute};
use crate::error::Error;
use crate::exec::{Exec, ExecError};
use crate::id::ContainerId;
use crate::monitor::Terminal;
use crate::state::Status;

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools)] // Flags, each of its own.
pub(crate) struct Args {
    /// Read what to run from this file, as in a configuration's `process`
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["cwd", "env", "user", "cap"])]
    pub(crate) process: Option<PathBuf>,
    /// Write the pid of the process that stands for the new one to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Send a pidfd of that process to this socket
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Return as soon as the process runs
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Send the process's terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Give the process a terminal
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Set an environment variable
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Run as this user
    #[arg(long, short, value_name = "UID[:GID]", value_parser = parse_user)]
    pub(crate) user: Option<(u32, Option<u32>)>,
    /// Add a supplementary group
    #[arg(long, short = 'g', value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// Add a capability, as `CAP_KILL`
    #[arg(long, short, value_name = "CAPABILITY")]
    pub(crate) cap: Vec<String>,
    /// Do not let the process gain privileges
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// Run the process in a cgroup that the container has made, as a path below its own
    #[arg(long, value_name = "[CONTROLLERS:]PATH", value_parser = parse_cgroup)]
    pub(crate) cgroup: Option<PathBuf>,
    /// Let the process wait for the end of a pause
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// Accepted for engines: the agent reaps in the guest
    #[arg(long, hide = true)]
    pub(crate) no_subreaper: bool,
    /// Accepted for engines: the guest's kernel has no such module
    #[arg(long, value_name = "LABEL", hide = true)]
    pub(crate) process_label: Option<String>,
    /// Accepted for engines: the guest's kernel has no such module
    #[arg(long, value_name = "PROFILE", hide = true)]
    pub(crate) apparmor: Option<String>,
    /// File descriptors to pass to the process; more than none is refused
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub(crate) preserve_fds: u32,
    /// Where to tell that the process runs (internal)
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) report: Option<PathBuf>,
    /// The container's id
    pub(crate) id: String,
    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required_unless_present = "process"
    )]
    pub(crate) command: Vec<String>,
}

/// Runs the process; its exit code is the command's.
pub(crate) fn execute(context: &Context, args: &Args) -> Result<u8, Error> {
    super::refuse_preserved_fds(args.preserve_fds)?;
    let id = ContainerId::parse(&args.id)?;
    let status = context.store.state(&id)?.status();
    let ignores_pause = args.ignore_paused && status == Status::Paused;
    if !status.can_exec() && !ignores_pause {
        let hint = match status {
            Status::Paused => "; resume it first, or use --ignore-paused",
            _ => "",
        };
        return Err(Error::WrongStatus {
            verb: "exec in",
            id,
            status,
            hint,
        });
    }
    if args.detach {
        return in_background(context, args);
    }
    let config: Spec = context.store.config(&id)?;
    let terminal = match &args.console_socket {
        Some(socket) => Terminal::Socket(socket.clone()),
        None if args.report.is_some() => Terminal::None,
        None => Terminal::Inherited,
    };
    let process = process::of(args, &config)?;
    let exec = Exec {
        id: &id,
        process,
        config: &config,
        terminal,
        cgroup: args.cgroup.clone(),
    };
    let dir = context.sandbox_dir(&id)?;
    let tell_process = || {
        pid_file::write(args.pid_file.as_deref()).map_err(ExecError::io("write the pid file"))?;
        pidfd_socket::send(args.pidfd_socket.as_deref(), pidfd_socket::Kind::Exec)
            .map_err(ExecError::io("send a pidfd to the pidfd socket"))
    };
    let Some(report) = &args.report else {
        return Ok(exec.run(&dir, tell_process)?);
    };
    let mut reporter = Reporter::open(report).map_err(Error::io("open", report))?;
    super::leave_session();
    let ready = || {
        tell_process()?;
        reporter
            .ready()
            .map_err(ExecError::io("tell that the process runs"))?;
        context
            .leave_stderr(args.console_socket.is_some())
            .map_err(ExecError::io("part with standard error"))
    };
    match exec.run(&dir, ready) {
        Ok(code) => Ok(code),
        Err(error) => tell(&mut reporter, error),
    }
}

/// The command that waits for this one tells the user, if it still waits.
fn tell(reporter: &mut Reporter, error: ExecError) -> Result<u8, Error> {
    let code = error.exit_code();
    if reporter.failed(&error, code) {
        Ok(code.unwrap_or(crate::EXEC_FAILURE))
    } else {
        Err(error.into())
    }
}

/// The same command again, as a process that stays behind.
fn in_background(context: &Context, args: &Args) -> Result<u8, Error> {
    background::start("exec", |command| {
        context.pass_on(command)?;
        pass_on(command, args)
    })?;
    Ok(0)
}

fn pass_on(command: &mut std::process::Command, args: &Args) -> Result<(), Error> {
    let files = [
        ("--process", &args.process),
        ("--pid-file", &args.pid_file),
        ("--pidfd-socket", &args.pidfd_socket),
        ("--console-socket", &args.console_socket),
    ];
    for (option, path) in files {
        if let Some(path) = path {
            command.arg(option).arg(absolute(path)?);
        }
    }
    for (option, path) in [("--cwd", &args.cwd), ("--cgroup", &args.cgroup)] {
        if let Some(path) = path {
            command.arg(option).arg(path);
        }
    }
    for (option, values) in [("--env", &args.env), ("--cap", &args.cap)] {
        for value in values {
            command.arg(format!("{option}={value}"));
        }
    }
    for gid in &args.additional_gids {
        command.arg(format!("--additional-gids={gid}"));
    }
    if let Some((uid, gid)) = args.user {
        let gid = gid.map(|gid| format!(":{gid}")).unwrap_or_default();
        command.arg(format!("--user={uid}{gid}"));
    }
    let flags = [
        ("--tty", args.tty),
        ("--no-new-privs", args.no_new_privs),
        ("--ignore-paused", args.ignore_paused),
    ];
    for (option, wanted) in flags {
        if wanted {
            command.arg(option);
        }
    }
    command.arg("--").arg(&args.id).args(&args.command);
    Ok(())
}

fn parse_user(text: &str) -> Result<(u32, Option<u32>), String> {
    let number = |text: &str| {
        text.parse()
            .map_err(|_| "expected UID or UID:GID, as numbers".to_owned())
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

/// Like runc, which names controllers where hierarchies are several: the guest has one.
fn parse_cgroup(text: &str) -> Result<PathBuf, String> {
    let path = match text.split_once(':') {
        None | Some(("", _)) => text.trim_start_matches(':'),
        Some(_) => return Err("the guest has cgroup v2, which has no controllers to name".into()),
    };
    Ok(path.trim_start_matches('/').into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_are_paths_below_the_container_s() {
        for (text, path) in [("/", ""), ("/a/b", "a/b"), ("a", "a"), (":a", "a")] {
            assert_eq!(parse_cgroup(text), Ok(path.into()));
        }
        assert!(parse_cgroup("memory:a").is_err());
    }

    #[test]
    fn users_are_numbers() {
        assert_eq!(parse_user("5"), Ok((5, None)));
        assert_eq!(parse_user("5:6"), Ok((5, Some(6))));
        for text in ["", "root", "5:", ":6", "-1"] {
            assert!(parse_user(text).is_err(), "{text:?}");
        }
    }
}
