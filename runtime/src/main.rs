//! Bulkhead: an OCI runtime that gives each container a microVM of its own.
//!
//! Where to start reading: [`commands`] has a file for each verb;
//! [`monitor::run`] is the path from a bundle to a container's first
//! instruction.

#![forbid(unsafe_code)]

mod agent;
mod attached;
mod background;
mod bundle;
mod cli;
mod clock;
mod commands;
mod context;
mod error;
mod events;
mod exec;
mod guest_spec;
mod id;
mod installation;
mod logging;
mod monitor;
mod process;
mod resources;
mod sandbox;
mod seccomp;
mod signals;
mod state;
mod stdio;
mod store;
mod timeline;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use clock::Moment;
use context::Context;
use error::Error;

/// The exit code of a command that failed, unless the error has one.
const FAILURE: u8 = 1;

/// The same for `exec`, whose ordinary codes are those of the process.
const EXEC_FAILURE: u8 = 255;

fn main() -> ExitCode {
    let started = Moment::now();
    let cli = Cli::parse();
    let failure = match cli.command {
        Command::Exec(_) => EXEC_FAILURE,
        _ => FAILURE,
    };
    match execute(cli, started) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            logging::report(&error);
            ExitCode::from(error.exit_code().unwrap_or(failure))
        }
    }
}

fn execute(cli: Cli, started: Moment) -> Result<u8, Error> {
    logging::init(
        cli.global.log.as_deref(),
        cli.global.log_format,
        cli.global.debug,
    )?;
    let context = Context::new(cli.global, started)?;
    match cli.command {
        Command::Run(args) => commands::run::execute(&context, args),
        Command::Create(args) => commands::create::execute(&context, &args),
        Command::Start(args) => commands::start::execute(&context, &args),
        Command::State(args) => commands::state::execute(&context, &args),
        Command::Kill(args) => commands::kill::execute(&context, &args),
        Command::Delete(args) => commands::delete::execute(&context, &args),
        Command::Exec(args) => commands::exec::execute(&context, &args),
        Command::List(args) => commands::list::execute(&context, &args),
        Command::Spec(args) => commands::spec::execute(&args),
        Command::Check(args) => commands::check::execute(&args),
        Command::Monitor(args) => commands::monitor::execute(&context, args),
        Command::Vmm(args) => commands::vmm::execute(&args),
        Command::Fsd(args) => commands::fsd::execute(args),
    }
}
