//! Hooks: programs of the host that are run at moments of a container's life
//! (OCI runtime specification, `config.md`, "POSIX-platform Hooks").
//!
//! All of them run here but `startContainer`, which the agent runs in the guest.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Hooks};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::Deserialize;

use crate::events::Waiter;
use crate::sandbox::Ending;
use crate::signals::{Signals, asks_for_end};
use crate::state::Description;
use crate::sys;

/// Most of a failed hook's output that goes into the message, in bytes.
const SHOWN: u64 = 4 << 10;

/// A moment of a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The sandbox's namespaces exist.
    Prestart,
    /// Likewise.
    CreateRuntime,
    /// The same, in the mount namespace that the sandbox's files come from.
    CreateContainer,
    /// The container's command runs.
    Poststart,
    /// The container has been deleted.
    Poststop,
}

impl Moment {
    fn hooks(self, hooks: &Hooks) -> &[Hook] {
        #[allow(deprecated)] // Engines still write it.
        let of_moment = match self {
            Self::Prestart => hooks.prestart(),
            Self::CreateRuntime => hooks.create_runtime(),
            Self::CreateContainer => hooks.create_container(),
            Self::Poststart => hooks.poststart(),
            Self::Poststop => hooks.poststop(),
        };
        of_moment.as_deref().unwrap_or_default()
    }

    /// Whether a configuration has something done at this moment.
    pub(crate) fn is_awaited(self, hooks: Option<&Hooks>) -> bool {
        hooks.is_some_and(|hooks| !self.hooks(hooks).is_empty())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        })
    }
}

/// A configuration of which only the hooks are of interest.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Hooked {
    /// They.
    pub(crate) hooks: Option<Hooks>,
}

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// It could not be run.
    #[error("cannot run the {moment} hook {}", path.display())]
    Run {
        /// When it was to run.
        moment: Moment,
        /// The program.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// It says that it failed.
    #[error("the {moment} hook {} {ending}{}", path.display(), indented(output))]
    Failed {
        /// When it ran.
        moment: Moment,
        /// The program.
        path: PathBuf,
        /// How it ended.
        ending: Ending,
        /// The end of what it had to say.
        output: String,
    },
    /// It took longer than it may.
    #[error("the {moment} hook {} did not end within {seconds} s{}", path.display(), indented(output))]
    TimedOut {
        /// When it ran.
        moment: Moment,
        /// The program.
        path: PathBuf,
        /// Its limit.
        seconds: i64,
        /// The end of what it had to say.
        output: String,
    },
    /// A signal asked for the end of it all.
    #[error("the {moment} hook {} was ended by signal {signal}", path.display())]
    Interrupted {
        /// When it ran.
        moment: Moment,
        /// The program.
        path: PathBuf,
        /// The signal's number.
        signal: u8,
    },
}

fn indented(output: &str) -> String {
    let lines = output.lines().map(|line| format!("\n  {line}"));
    lines.collect()
}

/// Runs the hooks of a moment, one after the other; the first that fails is the
/// last. A caller that has caught signals lets them end a hook.
pub(crate) fn run(
    moment: Moment,
    hooks: Option<&Hooks>,
    container: &Description<'_>,
    signals: Option<&Signals>,
) -> Result<(), HookError> {
    let of_moment = hooks.map(|hooks| moment.hooks(hooks)).unwrap_or_default();
    of_moment
        .iter()
        .try_for_each(|hook| run_one(moment, hook, container, signals))
}

/// The same, whatever fails; the failures are for the log.
pub(crate) fn run_all(moment: Moment, hooks: Option<&Hooks>, container: &Description<'_>) {
    for hook in hooks.map(|hooks| moment.hooks(hooks)).unwrap_or_default() {
        if let Err(error) = run_one(moment, hook, container, None) {
            log::warn!("{}", crate::logging::chain(&error));
        }
    }
}

fn run_one(
    moment: Moment,
    hook: &Hook,
    container: &Description<'_>,
    signals: Option<&Signals>,
) -> Result<(), HookError> {
    let path = hook.path();
    let failed = |source| HookError::Run {
        moment,
        path: path.clone(),
        source,
    };
    let mut output = memfd().map_err(failed)?;
    let mut child = spawn(hook, container, &output).map_err(failed)?;
    let end = wait(&mut child, hook.timeout(), signals).map_err(failed)?;
    let mut output = || last_of(&mut output).unwrap_or_default();
    match end {
        End::By(Ending(status)) if status.success() => Ok(()),
        End::By(ending) => Err(HookError::Failed {
            moment,
            path: path.clone(),
            ending,
            output: output(),
        }),
        End::Overdue { seconds } => Err(HookError::TimedOut {
            moment,
            path: path.clone(),
            seconds,
            output: output(),
        }),
        End::Signal(signal) => Err(HookError::Interrupted {
            moment,
            path: path.clone(),
            signal,
        }),
    }
}

/// The state goes to its input. What it writes goes to a file, so that nobody
/// need read it, however long it, or what it leaves behind, keeps it open.
fn spawn(hook: &Hook, container: &Description<'_>, output: &File) -> io::Result<Child> {
    if !hook.path().is_absolute() {
        let error = "the path of a hook must be absolute";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
    }
    let mut input = memfd()?;
    input.write_all(&serde_json::to_vec(container)?)?;
    input.rewind()?;
    let mut arguments = hook.args().iter().flatten();
    let mut command = Command::new(hook.path());
    command
        .arg0(
            arguments
                .next()
                .map_or(hook.path().as_os_str(), AsRef::as_ref),
        )
        .args(arguments)
        .env_clear()
        .envs(
            hook.env()
                .iter()
                .flatten()
                .filter_map(|v| v.split_once('=')),
        )
        .current_dir(container.bundle())
        .stdin(input)
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0);
    sys::unblock_signals_of(&mut command).spawn()
}

/// How the wait for a hook ended.
enum End {
    By(Ending),
    Overdue { seconds: i64 },
    Signal(u8),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Hook,
    Signals,
}

/// A hook that is not waited for any longer is killed, with its children.
fn wait(child: &mut Child, timeout: Option<i64>, signals: Option<&Signals>) -> io::Result<End> {
    let pid = Pid::from_child(child);
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = timeout.and_then(|s| Some((s, Duration::from_secs(u64::try_from(s).ok()?))));
    let deadline = limit.and_then(|(_, limit)| Instant::now().checked_add(limit));
    let end = loop {
        let mut waiter = Waiter::new();
        waiter.readable(Source::Hook, handle.as_fd());
        if let Some(signals) = signals {
            waiter.readable(Source::Signals, signals.as_fd());
        }
        let ready = waiter.wait(deadline)?;
        if ready.contains(&Source::Hook) {
            return child.wait().map(Ending).map(End::By);
        }
        match signals.map(Signals::next).transpose()?.flatten() {
            Some(signal) if asks_for_end(signal) => break End::Signal(signal),
            _ if ready.is_empty() => {
                let seconds = timeout.unwrap_or_default();
                break End::Overdue { seconds };
            }
            _ => {}
        }
    };
    // Fails only if all of them have gone in this moment.
    let _ = kill_process_group(pid, Signal::KILL);
    child.wait()?;
    Ok(end)
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
