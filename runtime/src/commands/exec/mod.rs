//! `bulkhead exec`: a further process in a running container.

use std::fs;
use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec};

use super::pid_file;
use crate::background::{self, Reporter};
use crate::context::{Context, absolute};
use crate::error::Error;
use crate::exec::{Exec, ExecError};
use crate::id::ContainerId;
use crate::monitor::Terminal;

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read what to run from this file, as in a configuration's `process`
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["cwd", "env", "user", "cap"])]
    pub(crate) process: Option<PathBuf>,
    /// Write the pid of the process that stands for the new one to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
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
    if !status.can_exec() {
        return Err(Error::WrongStatus {
            verb: "exec in",
            id,
            status,
            hint: "",
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
    let process = process(args, &config)?;
    let exec = Exec {
        id: &id,
        process,
        config: &config,
        terminal,
    };
    let dir = context.sandbox_dir(&id)?;
    let write_pid_file =
        || pid_file::write(args.pid_file.as_deref()).map_err(ExecError::io("write the pid file"));
    let Some(report) = &args.report else {
        return Ok(exec.run(&dir, write_pid_file)?);
    };
    let mut reporter = Reporter::open(report).map_err(Error::io("open", report))?;
    super::leave_session();
    let ready = || {
        write_pid_file()?;
        reporter
            .ready()
            .map_err(ExecError::io("tell that the process runs"))?;
        context
            .leave_stderr()
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
        ("--console-socket", &args.console_socket),
    ];
    for (option, path) in files {
        if let Some(path) = path {
            command.arg(option).arg(absolute(path)?);
        }
    }
    if let Some(directory) = &args.cwd {
        command.arg("--cwd").arg(directory);
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
    for (option, wanted) in [("--tty", args.tty), ("--no-new-privs", args.no_new_privs)] {
        if wanted {
            command.arg(option);
        }
    }
    command.arg("--").arg(&args.id).args(&args.command);
    Ok(())
}

/// What to run: a file's content, or the container's own process with changes.
fn process(args: &Args, config: &Spec) -> Result<Process, Error> {
    let mut process = match &args.process {
        Some(path) => read_process(path)?,
        None => config.process().clone().unwrap_or_default(),
    };
    if args.process.is_none() {
        process.set_terminal(Some(args.tty));
        process.set_args(Some(args.command.clone()));
        if let Some(cwd) = &args.cwd {
            process.set_cwd(cwd.clone());
        }
        process
            .env_mut()
            .get_or_insert_default()
            .extend(args.env.iter().cloned());
        set_user(&mut process, args);
        add_capabilities(&mut process, &args.cap)?;
    } else if args.tty {
        process.set_terminal(Some(true));
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    // The guest's kernel has neither of these security modules.
    process.set_apparmor_profile(None).set_selinux_label(None);
    Ok(process)
}

fn read_process(path: &PathBuf) -> Result<Process, Error> {
    let text = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Content {
        path: path.clone(),
        what: "a process as in an OCI configuration",
        source,
    })
}

fn set_user(process: &mut Process, args: &Args) {
    let user = process.user_mut();
    if let Some((uid, gid)) = args.user {
        user.set_uid(uid)
            .set_gid(gid.unwrap_or(0))
            .set_additional_gids(None);
    }
    if !args.additional_gids.is_empty() {
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&args.additional_gids);
        user.set_additional_gids(Some(groups));
    }
}

fn add_capabilities(process: &mut Process, names: &[String]) -> Result<(), Error> {
    if names.is_empty() {
        return Ok(());
    }
    let mut added = Capabilities::new();
    for name in names {
        added.insert(parse_capability(name)?);
    }
    let mut all: LinuxCapabilities = process.capabilities().clone().unwrap_or_default();
    let with = |set: &Option<Capabilities>| {
        Some(
            set.iter()
                .flatten()
                .chain(&added)
                .copied()
                .collect::<Capabilities>(),
        )
    };
    let (bounding, effective) = (with(all.bounding()), with(all.effective()));
    let (permitted, ambient) = (with(all.permitted()), with(all.ambient()));
    all.set_bounding(bounding).set_effective(effective);
    all.set_permitted(permitted).set_ambient(ambient);
    process.set_capabilities(Some(all));
    Ok(())
}

fn parse_capability(name: &str) -> Result<Capability, Error> {
    let json = serde_json::Value::from(name.to_ascii_uppercase());
    serde_json::from_value(json).map_err(|_| Error::Value {
        option: "--cap",
        value: name.to_owned(),
        reason: "it is not the name of a capability",
    })
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

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &str) -> Args {
        let words = ["bulkhead", "exec"]
            .into_iter()
            .chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Exec(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn config() -> Spec {
        serde_json::from_value(json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": true, "args": ["init"], "cwd": "/srv", "env": ["PATH=/bin"],
                "user": { "uid": 1, "gid": 2, "additionalGids": [3] },
                "capabilities": { "bounding": ["CAP_KILL"], "effective": [] },
            },
        }))
        .unwrap()
    }

    #[test]
    fn containers_process_is_the_model() {
        let process = process(&args("c1 ls -l"), &config()).unwrap();
        let json = serde_json::to_value(&process).unwrap();
        assert_eq!(json["args"], json!(["ls", "-l"]));
        assert_eq!(json["cwd"], "/srv");
        assert_eq!(json["terminal"], false);
        assert_eq!(
            json["user"],
            json!({ "uid": 1, "gid": 2, "additionalGids": [3] })
        );
    }

    #[test]
    fn options_change_it() {
        let line = "-t --cwd /tmp -e A=b -u 5:6 -g 7 --cap cap_chown --no-new-privs c1 id";
        let process = process(&args(line), &config()).unwrap();
        let json = serde_json::to_value(&process).unwrap();
        assert_eq!(json["terminal"], true);
        assert_eq!(json["cwd"], "/tmp");
        assert_eq!(json["env"], json!(["PATH=/bin", "A=b"]));
        assert_eq!(
            json["user"],
            json!({ "uid": 5, "gid": 6, "additionalGids": [7] })
        );
        assert_eq!(json["noNewPrivileges"], true);
        assert_eq!(json["capabilities"]["effective"], json!(["CAP_CHOWN"]));
        assert_eq!(
            json["capabilities"]["bounding"].as_array().unwrap().len(),
            2
        );
    }

    #[test]
    fn unknown_capability_is_named() {
        let error = process(&args("--cap CAP_FLY c1 true"), &config()).unwrap_err();
        assert!(error.to_string().contains("CAP_FLY"));
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
