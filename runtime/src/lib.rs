//! Bulkhead: an OCI runtime that gives each container a microVM of its own.
//!
//! Where to start reading: `commands` has a file for each verb;
//! `monitor::run` is the path from a bundle to a container's first
//! instruction.

#![deny(unsafe_code)]

mod agent;
mod attached;
mod background;
mod bundle;
mod cli;
mod clock;
mod commands;
mod context;
mod descriptor_socket;
mod devices;
mod error;
mod events;
mod exec;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guest_spec;
mod hooks;
mod host_cgroup;
mod id;
mod id_map;
mod installation;
mod logging;
mod monitor;
mod namespaces;
mod network;
mod process;
mod removal;
mod resources;
mod sandbox;
mod seccomp;
mod shared_memory;
mod signals;
mod state;
mod stdio;
mod store;
mod sys;
mod text_table;
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

/// Carries out the command line, and tells the exit code.
pub fn main() -> ExitCode {
    let started = Moment::now();
    let (result, failure) = match std::env::args_os().nth(1) {
        Some(verb) if verb == "vmm" => (execute_internal(commands::vmm::execute), FAILURE),
        Some(verb) if verb == "fsd" => (
            execute_internal(|args| commands::fsd::execute(&args)),
            FAILURE,
        ),
        Some(verb) if verb == "bench" => {
            sys::keep_descriptors_from_children();
            (execute_apart(commands::bench::execute), FAILURE)
        }
        _ => {
            sys::keep_descriptors_from_children();
            let cli = match Cli::try_parse() {
                Ok(cli) => cli,
                Err(error) => return refuse_usage(&error),
            };
            let failure = match cli.command {
                Command::Exec(_) => EXEC_FAILURE,
                _ => FAILURE,
            };
            (execute(cli, started), failure)
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            logging::report(&error);
            ExitCode::from(error.exit_code().unwrap_or(failure))
        }
    }
}

/// A command line that makes no sense. Engines read why in the log that they name.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    // Help and the version, when asked for, are no errors.
    if !error.use_stderr() {
        error.exit();
    }
    let arguments: Vec<_> = std::env::args_os().collect();
    let (log, format) = logging::options_in(&arguments);
    // Standard error is told in any case.
    let _ = logging::init(log.as_deref(), format, false);
    let _ = error.print();
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    logging::record(first.trim_start_matches("error: "));
    let is_exec = arguments.iter().any(|argument| argument == "exec");
    ExitCode::from(if is_exec { EXEC_FAILURE } else { FAILURE })
}

/// A verb by which a sandbox starts this program. Parsed apart from the
/// others: a start waits for it, and building their parser takes longer than
/// all else that such a process does before its work.
fn execute_internal<A: Parser>(verb: fn(A) -> Result<u8, Error>) -> Result<u8, Error> {
    logging::init_for_sandbox();
    execute_apart(verb)
}

/// A verb whose options the parser of the others does not know.
fn execute_apart<A: Parser>(verb: fn(A) -> Result<u8, Error>) -> Result<u8, Error> {
    verb(A::parse_from(std::env::args_os().skip(1)))
}

fn execute(cli: Cli, started: Moment) -> Result<u8, Error> {
    let global = &cli.global;
    logging::init(global.log.as_deref(), global.log_format, global.debug)?;
    let context = Context::new(cli.global, started)?;
    commands::execute(cli.command, &context)
}
