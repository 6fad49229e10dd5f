//! The process that stands for a container on the host.
//!
//! It owns the container's sandbox, relays its streams, passes signals on, and
//! ends when the container ends, with its exit code. `run` in the foreground
//! is such a process; `create` and `run --detach` start one in the background
//! (the hidden verb `monitor`).

mod error;
mod job;
mod record;
mod supervisor;
mod surroundings;

use std::mem;

use bulkhead_protocol::{CreateContainer, Json, Network, ProcessId, RequestBody, WindowSize};
use oci_spec::runtime::Process;

use crate::attached::{Attached, Screen};
use crate::bundle::Bundle;
use crate::devices;
use crate::guest_spec::GuestSpec;
use crate::hooks::{self, Moment};
use crate::installation::Installation;
use crate::logging;
use crate::namespaces;
use crate::process::ProcessRef;
use crate::resources::{Host, Resources};
use crate::sandbox::{Helper, Plan, Sandbox};
use crate::seccomp::{self, ProfileError};
use crate::signals::Signals;
use crate::state::{Exit, Phase};
use crate::stdio::console::Console;
use crate::stdio::{Local, Streams, terminal};
use crate::store::Store;
use crate::timeline::Timeline;
pub(crate) use error::{MonitorError, command_exit_code, explain};
pub(crate) use job::{Job, Terminal, Until};
use record::Record;
use supervisor::{Goal, Supervisor};

/// Runs a container from its sandbox's start to its end, and returns its exit
/// code. `ready` is called when the container has got as far as it should go
/// by itself.
///
/// This is the boot path. What can be done beside the guest is done after its
/// sandbox has been launched.
pub(crate) fn run(
    store: &Store,
    job: &Job,
    ready: impl FnOnce() -> Result<(), MonitorError>,
) -> Result<u8, MonitorError> {
    let signals = Signals::catch().map_err(MonitorError::io("catch signals"))?;
    let bundle = Bundle::load(&job.bundle)?;
    check_terminal(&job.terminal, &bundle)?;
    namespaces::check(&bundle.spec)?;
    let resources = Resources::of(&bundle.spec, Host::current())?;
    let GuestSpec { mut spec, exports } = GuestSpec::new(&job.id, &bundle)?;
    devices::keep_guests(&mut spec)?;
    let installation = Installation::find()?;
    let monitor = ProcessRef::current().map_err(MonitorError::io("identify this process"))?;
    let mut record = Record::reserve(store, &job.id, monitor)?;
    let mut network = surroundings::make(job, &bundle, resources, &mut record, &signals)?;
    let plan = Plan {
        taps: network
            .as_mut()
            .map_or_else(Vec::new, |taken| mem::take(&mut taken.taps)),
        installation,
        resources,
        exports,
    };
    let sandbox = Sandbox::launch(&store.sandbox_dir(&job.id), plan)?;

    // The guest is booting.
    let identify = |helper: &Helper| {
        ProcessRef::of(helper.pid()).map_err(MonitorError::io("identify the sandbox's processes"))
    };
    let (vmm, fsd) = (identify(sandbox.vmm())?, identify(sandbox.file_server())?);
    record.write(&bundle, |state| {
        state.vmm = Some(vmm);
        state.fsd = Some(fsd);
    })?;
    let spec =
        Json::new(&spec).map_err(|e| MonitorError::io("encode the configuration")(e.into()))?;
    let network_request = network.as_ref().map(|taken| taken.network.clone());
    let goal = prepare(job, &bundle, spec, network_request, &sandbox)?;

    let mut supervisor = Supervisor::new(sandbox, signals, Timeline::new(job.started));
    let attached = supervisor.start(goal, job.start_timeout)?;
    record.advance(match job.until {
        Until::Created => Phase::Created,
        Until::Started => Phase::Running,
    })?;
    if job.until == Until::Started {
        let state = record.read()?;
        hooks::run(Moment::Poststart, bundle.hooks(), &state.describe(), None)?;
    }
    ready()?;
    if let Some(path) = &job.timeline
        && let Err(error) = supervisor.timeline().write(path)
    {
        log::warn!("cannot write the timeline to {}: {error}", path.display());
    }
    if !job.remove {
        record.keep();
    }

    let outcome = follow(supervisor, attached);
    // The container is over. That there is no trace of it, or one too many,
    // does not change how it ended.
    if !job.remove
        && let Err(error) = record.end(exit_of(&outcome))
    {
        log::warn!("{}", logging::chain(&error));
    }
    outcome
}

fn exit_of(outcome: &Result<u8, MonitorError>) -> Exit {
    match outcome {
        Ok(code) => Exit {
            code: *code,
            reason: None,
        },
        Err(error) => Exit {
            code: error.exit_code().unwrap_or(crate::FAILURE),
            reason: Some(logging::chain(error)),
        },
    }
}

/// Sees a container that is on its way to its end, and ends its sandbox.
fn follow(mut supervisor: Supervisor, mut attached: Attached) -> Result<u8, MonitorError> {
    attached
        .enter_raw_mode()
        .map_err(MonitorError::io("set up the terminal"))?;
    let status = supervisor.follow(attached)?;
    if let Err(error) = supervisor.tear_down() {
        log::warn!("{}", logging::chain(&error));
    }
    Ok(status.code())
}

fn prepare(
    job: &Job,
    bundle: &Bundle,
    spec: Json,
    network: Option<Network>,
    sandbox: &Sandbox,
) -> Result<Goal, MonitorError> {
    let (local, screen) = open_stdio(&job.terminal, bundle)?;
    let streams =
        Streams::listen(sandbox.dir(), local).map_err(MonitorError::io("listen for streams"))?;
    let container = job.id.to_string();
    let request = CreateContainer {
        container: container.clone(),
        spec,
        seccomp_filter: compile_seccomp(bundle)?,
        stdio: streams.request(),
    };
    Ok(Goal {
        process: ProcessId {
            container,
            exec: None,
        },
        network: network.map(Box::new),
        request: RequestBody::Create(Box::new(request)),
        streams,
        screen,
        until: job.until,
    })
}

fn compile_seccomp(bundle: &Bundle) -> Result<Option<Vec<u8>>, ProfileError> {
    let linux = bundle.spec.linux().as_ref();
    let profile = linux.and_then(|linux| linux.seccomp().as_ref());
    profile.map(seccomp::compile).transpose()
}

fn check_terminal(terminal: &Terminal, bundle: &Bundle) -> Result<(), MonitorError> {
    match (terminal, bundle.wants_terminal()) {
        (Terminal::None, true) => Err(MonitorError::NoConsole),
        (Terminal::Socket(_), false) => Err(MonitorError::UnwantedConsole),
        _ => Ok(()),
    }
}

fn open_stdio(terminal: &Terminal, bundle: &Bundle) -> Result<(Local, Screen), MonitorError> {
    let failed = || MonitorError::io("set up the standard streams");
    if !bundle.wants_terminal() {
        return Ok((Local::inherited().map_err(failed())?, Screen::None));
    }
    let size = bundle
        .process()
        .and_then(Process::console_size)
        .map(|size| WindowSize {
            rows: size.height() as u16,
            columns: size.width() as u16,
        });
    match terminal {
        Terminal::Socket(socket) => {
            let console = Console::send_to(socket, size)?;
            Ok((console.local().map_err(failed())?, Screen::Console(console)))
        }
        Terminal::Inherited | Terminal::None => Ok((
            terminal::inherited(size).map_err(failed())?,
            Screen::Inherited(None),
        )),
    }
}
