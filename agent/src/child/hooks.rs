//! `startContainer` hooks: programs of the container that run in it, as its user,
//! before its command does (OCI runtime specification, `config.md`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process_group, pidfd_open};
use serde::Serialize;

use super::error::{Result, SetupError};
use crate::plan::{ContainerPlan, HookPlan};

/// Most of a failed hook's output that goes into the message, in bytes.
const SHOWN: u64 = 2 << 10;

/// The container, as the specification has its state.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'static str,
    id: &'a str,
    status: &'static str,
    pid: i32,
    /// The bundle lies on the host; this is where the guest has its files from.
    bundle: &'a Path,
    annotations: &'a BTreeMap<String, String>,
}

/// Runs the hooks, one after the other; the first that fails is the last.
pub(super) fn run(id: &str, plan: &ContainerPlan) -> Result<()> {
    if plan.start_hooks.is_empty() {
        return Ok(());
    }
    let state = State {
        oci_version: "1.2.0",
        id,
        status: "created",
        pid: getpid().as_raw_pid(),
        bundle: plan.rootfs.parent().unwrap_or(&plan.rootfs),
        annotations: &plan.annotations,
    };
    let state = serde_json::to_vec(&state).unwrap_or_default();
    plan.start_hooks
        .iter()
        .try_for_each(|hook| run_one(hook, &state))
}

fn run_one(hook: &HookPlan, state: &[u8]) -> Result<()> {
    let failed = |source| SetupError::Hook {
        path: hook.path.clone(),
        source,
    };
    let mut output = memfd().map_err(failed)?;
    let mut child = spawn(hook, state, &output).map_err(failed)?;
    match wait(&mut child, hook.timeout).map_err(failed)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(SetupError::HookFailed {
            path: hook.path.clone(),
            status,
            output: last_of(&mut output).unwrap_or_default(),
        }),
        None => Err(SetupError::HookTimedOut {
            path: hook.path.clone(),
            output: last_of(&mut output).unwrap_or_default(),
        }),
    }
}

fn spawn(hook: &HookPlan, state: &[u8], output: &File) -> io::Result<Child> {
    let mut input = memfd()?;
    input.write_all(state)?;
    input.rewind()?;
    let mut arguments = hook.args.iter();
    Command::new(&hook.path)
        .arg0(
            arguments
                .next()
                .map_or(hook.path.as_os_str(), AsRef::as_ref),
        )
        .args(arguments)
        .env_clear()
        .envs(
            hook.env
                .iter()
                .filter_map(|variable| variable.split_once('=')),
        )
        .stdin(input)
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0)
        .spawn()
}

/// `None` if it took too long, and has been killed.
fn wait(child: &mut Child, timeout: Option<Timespec>) -> io::Result<Option<ExitStatus>> {
    if let Some(timeout) = timeout {
        let pid = Pid::from_child(child);
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        let mut ended = [PollFd::new(&handle, PollFlags::IN)];
        if rustix::event::poll(&mut ended, Some(&timeout))? == 0 {
            // Fails only if it has ended in this moment.
            let _ = kill_process_group(pid, Signal::KILL);
            child.wait()?;
            return Ok(None);
        }
    }
    child.wait().map(Some)
}

fn memfd() -> io::Result<File> {
    Ok(rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC)?.into())
}

fn last_of(output: &mut File) -> io::Result<String> {
    let start = output.metadata()?.len().saturating_sub(SHOWN);
    output.seek(io::SeekFrom::Start(start))?;
    let mut text = Vec::new();
    output.take(SHOWN).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}
