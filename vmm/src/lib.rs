//! A small virtual machine monitor on KVM: a configuration goes in, a running
//! microVM comes out. It knows nothing of containers.

#![deny(unsafe_code)]

pub mod arch;
pub mod boot;
mod clock;
pub mod config;
pub mod control;
pub mod devices;
pub mod event_loop;
pub mod exit;
mod heap;
pub mod host;
pub mod inherited_fd;
pub mod kernel;
pub mod kvm;
pub mod memory;
pub mod seccomp;
pub mod spec;
pub mod stop;
pub mod vcpu;
pub mod vm;
pub mod workers;

use std::io;

use crate::boot::BootError;
use crate::config::Config;
use crate::control::{Control, Event};
use crate::exit::ExitReason;
use crate::spec::{SpecError, VmSpec};
use crate::vm::RunError;

/// Why a microVM did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not valid.
    #[error("the microVM's configuration is not valid")]
    Spec(#[from] SpecError),
    /// The control stream cannot be used.
    #[error("cannot use the control stream")]
    Control(#[source] io::Error),
    /// It could not be built.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// It could not be started.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Runs a microVM from its start to its end.
///
/// A control stream, if the configuration has one, hears of the error that is
/// returned, too.
pub fn run(config: Config) -> Result<ExitReason, Error> {
    heap::share_between_threads();
    let mut spec = VmSpec::try_from(config)?;
    let control = Control::open(spec.control.take()).map_err(Error::Control)?;
    let result = boot_and_run(spec, &control);
    if let Err(error) = &result {
        control.send(&Event::Failed {
            error: with_causes(error),
        });
    }
    result
}

fn boot_and_run(spec: VmSpec, control: &Control) -> Result<ExitReason, Error> {
    Ok(boot::boot(spec, control.clone())?.run()?)
}

/// An error and what it comes from, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
