//! The command line: runc's, and what Bulkhead adds to it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::logging::Format;

/// Printed by `--version`: three lines, as engines expect of runc.
const VERSION: &str = concat!(
    "version ",
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("BULKHEAD_COMMIT"),
    "\nspec: ",
    "1.2.0"
);

/// The verb that is parsed apart.
const BENCH: &str = "Measure starts of containers on this machine: bulkhead bench --help";

/// An OCI runtime that gives each container a microVM of its own.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version = VERSION, max_term_width = 100, after_help = BENCH)]
pub(crate) struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of all commands.
#[derive(Debug, Clone, Args)]
pub(crate) struct GlobalArgs {
    /// Where containers are recorded [default: /run/bulkhead, or
    /// `$XDG_RUNTIME_DIR/bulkhead` for users other than root]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) root: Option<PathBuf>,
    /// Append messages to this file
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) log: Option<PathBuf>,
    /// How messages look in the log
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "text",
        global = true
    )]
    pub(crate) log_format: Format,
    /// Log more
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// Have systemd make the container's cgroup on the host
    #[arg(long, global = true)]
    pub(crate) systemd_cgroup: bool,
    /// Who makes the container's cgroup on the host
    #[arg(long, value_name = "MANAGER", value_enum, global = true)]
    pub(crate) cgroup_manager: Option<CgroupManager>,
    /// Accepted for engines: the caller's privileges are seen. Before the verb
    /// only, since `spec` has one of its own
    #[arg(long, value_name = "auto|BOOL", hide = true)]
    pub(crate) rootless: Option<String>,
    /// Accepted for engines: nothing is saved
    #[arg(long, value_name = "FILE", global = true, hide = true)]
    pub(crate) criu: Option<PathBuf>,
}

/// Who makes cgroups, in the words of crun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CgroupManager {
    /// This program.
    Cgroupfs,
    /// systemd.
    Systemd,
    /// Nobody.
    Disabled,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a container, start it and wait for its end
    Run(commands::run::Args),
    /// Create a container, which then waits for `start`
    Create(commands::create::Args),
    /// Start a created container
    Start(commands::start::Args),
    /// Print a container's state as JSON
    State(commands::state::Args),
    /// Send a signal to a container
    Kill(commands::kill::Args),
    /// Remove a container
    Delete(commands::delete::Args),
    /// Run a further process in a container
    Exec(commands::exec::Args),
    /// List the containers
    List(commands::list::Args),
    /// List the processes in a container
    Ps(commands::ps::Args),
    /// Stop all processes of a container, until `resume`
    Pause(commands::pause::Args),
    /// Let the processes of a paused container go on
    Resume(commands::pause::Args),
    /// Change a container's limits
    Update(commands::update::Args),
    /// Tell what a container uses, again and again
    Events(commands::events::Args),
    /// Tell what this runtime can do, as JSON
    Features,
    /// Not supported
    #[command(hide = true)]
    Checkpoint(commands::checkpoint::Args),
    /// Not supported
    #[command(hide = true)]
    Restore(commands::checkpoint::Args),
    /// Write a configuration to start from
    Spec(commands::spec::Args),
    /// Tell whether this host can run guests, and what to do if not
    Check(commands::check::Args),
    /// Stand for a container in the background
    #[command(hide = true)]
    Monitor(commands::monitor::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(std::iter::once("bulkhead").chain(line.split_whitespace()))
            .unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn version_has_three_lines() {
        let version = Cli::command().render_version();
        let lines: Vec<_> = version.lines().collect();
        assert_eq!(lines.len(), 3, "{version}");
        assert!(lines[0].starts_with("bulkhead version "));
        assert!(lines[1].starts_with("commit: "));
        assert!(lines[2].starts_with("spec: "));
    }

    #[test]
    fn conmon_creates() {
        let cli = parse(
            "--systemd-cgroup --log-format=json --log /c/oci-log --cgroup-manager disabled \
             create --bundle /c --pid-file /c/pidfile --no-pivot --no-new-keyring \
             --preserve-fds 0 --console-socket /c/attach c1",
        );
        assert_eq!(cli.global.log_format, Format::Json);
        assert_eq!(cli.global.log, Some("/c/oci-log".into()));
        let Command::Create(args) = cli.command else {
            panic!("{:?}", cli.command);
        };
        assert_eq!(args.id, "c1");
        assert_eq!(args.container.bundle, PathBuf::from("/c"));
        assert_eq!(args.container.pid_file, Some("/c/pidfile".into()));
        assert_eq!(args.container.console_socket, Some("/c/attach".into()));
    }

    #[test]
    fn conmon_execs() {
        let cli = parse("exec --pid-file /c/pid --process /c/process.json --detach c1");
        let Command::Exec(args) = cli.command else {
            panic!("{:?}", cli.command);
        };
        assert_eq!((args.id.as_str(), args.detach), ("c1", true));
        assert_eq!(args.process, Some("/c/process.json".into()));
        assert!(args.command.is_empty());
    }

    #[test]
    fn go_runc_calls() {
        let cli = parse("--root /r --log /l --log-format json kill --all c1 9");
        assert_eq!(cli.global.root, Some("/r".into()));
        let Command::Kill(args) = cli.command else {
            panic!("{:?}", cli.command);
        };
        assert_eq!(
            (args.id.as_str(), args.signal.as_str(), args.all),
            ("c1", "9", true)
        );

        for line in [
            "state c1",
            "list --format json",
            "list -q",
            "delete --force c1",
            "start c1",
            "ps --format json c1",
            "ps c1 -ef",
            "pause c1",
            "resume c1",
            "update --resources - c1",
            "update --cpu-quota -1 --memory 64m --pids-limit -1 c1",
            "events --stats c1",
            "events --interval 1s c1",
            "features",
            "checkpoint --image-path /i --leave-running c1",
            "restore --image-path /i --detach c1",
            "exec --apparmor x --process-label y --ignore-paused c1 true",
        ] {
            parse(line);
        }
        parse("run --bundle /b --pid-file /p --no-pivot --detach c1");
        parse("--rootless=false --debug state c1");
        parse("--rootless auto --criu /usr/sbin/criu state c1");
    }

    #[test]
    fn options_of_the_inner_command_are_left_alone() {
        let cli = parse("exec -t --user 5:6 -e A=b --cap CAP_KILL c1 ls --all --root /x");
        let Command::Exec(args) = cli.command else {
            panic!("{:?}", cli.command);
        };
        assert_eq!(args.command, ["ls", "--all", "--root", "/x"]);
        assert_eq!(cli.global.root, None);
        assert_eq!(args.env, ["A=b"]);
    }

    #[test]
    fn signal_is_term_by_default() {
        let Command::Kill(args) = parse("kill c1").command else {
            panic!()
        };
        assert_eq!(args.signal, "TERM");
    }
}
