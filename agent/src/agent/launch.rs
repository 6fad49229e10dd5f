//! Starting processes: the agent's side of the fork.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bulkhead_protocol::{ProcessId, Stdio, StreamKind};
use rustix::event::epoll::EventFlags;
use rustix::fs::{Uid, fchown};
use rustix::io::ioctl_fionbio;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::Agent;
use super::process::{Phase, Process, ReplyTo};
use crate::child::{self, Launch, Streams};
use crate::event::{StreamIndex, Token};
use crate::plan::{IdMaps, ProcessPlan, ResourceLimit};
use crate::stream::Stream;
use crate::sys::{self, Forked};

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    #[error("cannot make the channel to the process")]
    Control(#[source] io::Error),
    #[error("cannot connect {kind:?} to host port {port}")]
    Stream {
        kind: StreamKind,
        port: u32,
        source: io::Error,
    },
    #[error("cannot join the pid namespace")]
    PidNamespace(#[source] io::Error),
    #[error("cannot fork")]
    Fork(#[source] io::Error),
    #[error("cannot map the ids of the user namespace")]
    IdMaps(#[source] io::Error),
    #[error("cannot watch the process")]
    Watch(#[source] io::Error),
}

/// What is to be started.
pub(super) struct Order<'a> {
    pub(super) name: ProcessId,
    pub(super) plan: &'a ProcessPlan,
    pub(super) seccomp_filter: Option<&'a [u8]>,
    pub(super) stdio: Stdio,
    /// Its user, as the agent sees it.
    pub(super) owner: Uid,
    /// Who is told when it is ready.
    pub(super) ready: Option<ReplyTo>,
    /// Who is told when it executes its command, which it then does unasked.
    pub(super) start: Option<ReplyTo>,
    /// The connection that it ends with, if with one.
    pub(super) client: Option<u64>,
}

/// Where it is to be started.
pub(super) struct Place<'a> {
    /// New namespaces.
    pub(super) namespaces: ThreadNameSpaceType,
    /// Mappings of a new user namespace.
    pub(super) id_maps: Option<&'a IdMaps>,
    /// A pid namespace to start in: a descriptor of it, or of a process in it.
    pub(super) pid_namespace: Option<BorrowedFd<'a>>,
    /// The cgroup.
    pub(super) cgroup: BorrowedFd<'a>,
}

impl Agent {
    /// Starts a process, in which `child` runs.
    pub(super) fn launch(
        &mut self,
        order: Order<'_>,
        place: &Place<'_>,
        child: impl FnOnce(&Forked, Launch<'_>) -> u8,
    ) -> Result<Process, LaunchError> {
        let key = self.next_key();
        let (control, child_control) = child::control_pair().map_err(LaunchError::Control)?;
        let (streams, child_streams) = self.connect_streams(key, &order)?;
        let launch = Launch {
            plan: order.plan,
            seccomp_filter: order.seccomp_filter,
            terminal: order.stdio.terminal,
            streams: child_streams,
            control: child_control,
        };
        let forked = self.fork(place, launch, child)?;
        let mut process = Process {
            key,
            name: order.name,
            pid: forked.pid,
            pidfd: forked.pidfd,
            client: order.client,
            limits: limits(order.plan),
            oom_score_adj: order.plan.oom_score_adj,
            streams,
            phase: Phase::SettingUp {
                control,
                ready: order.ready,
                start: order.start,
            },
            waiting: Vec::new(),
        };
        // If this fails, the channel closes, and so the process ends.
        self.admit(&mut process, place.id_maps)?;
        Ok(process)
    }

    fn fork(
        &self,
        place: &Place<'_>,
        launch: Launch<'_>,
        child: impl FnOnce(&Forked, Launch<'_>) -> u8,
    ) -> Result<sys::Child, LaunchError> {
        let namespaces = place.namespaces - child::MADE_LATER;
        let fork = || {
            let run = |proof: Forked| child(&proof, launch);
            sys::fork(&self.proof, namespaces, Some(place.cgroup), run).map_err(LaunchError::Fork)
        };
        match place.pid_namespace {
            Some(namespace) => in_pid_namespace(namespace, fork),
            None => fork(),
        }
    }

    /// Takes a new process into the event loop, and lets it go on if it waits
    /// for its ids to be mapped.
    fn admit(
        &mut self,
        process: &mut Process,
        id_maps: Option<&IdMaps>,
    ) -> Result<(), LaunchError> {
        if let Some(control) = process.control() {
            self.poller
                .add(control, Token::Control(process.key), EventFlags::IN)
                .map_err(LaunchError::Watch)?;
        }
        process.advance_streams(&self.poller, &mut self.buffer);
        let Some(maps) = id_maps else {
            return Ok(());
        };
        let pid = process.pid.as_raw_pid();
        let write = |file, text| fs::write(format!("/proc/{pid}/{file}"), text);
        write("uid_map", &maps.uid)
            .and_then(|()| write("gid_map", &maps.gid))
            .and_then(|()| process.go_on())
            .map_err(LaunchError::IdMaps)
    }

    /// Dials a connection for each stream, and makes the pipe behind it.
    fn connect_streams(
        &self,
        key: u64,
        order: &Order<'_>,
    ) -> Result<(Vec<Stream>, Streams), LaunchError> {
        let stdio = &order.stdio;
        let mut streams = Vec::new();
        let mut child_streams: Streams = [None, None, None];
        for (index, kind) in stdio.streams().enumerate() {
            let mut connect = || -> io::Result<Stream> {
                let socket = self.settings.transport.dial(stdio.port)?;
                let mut local = None;
                if kind != StreamKind::Terminal {
                    let (own, child) = pipe_for(kind, order.owner)?;
                    child_streams[kind as usize] = Some(child);
                    local = Some(own);
                }
                Ok(Stream::new(kind, key, index as StreamIndex, socket, local))
            };
            match connect() {
                Ok(stream) => streams.push(stream),
                Err(source) => {
                    let port = stdio.port;
                    return Err(LaunchError::Stream { kind, port, source });
                }
            }
        }
        Ok((streams, child_streams))
    }
}

/// What a login has. The agent's own limit is higher than programs expect that
/// close all descriptors there could be.
const DEFAULT_DESCRIPTORS: u64 = 1024;

fn limits(plan: &ProcessPlan) -> Vec<ResourceLimit> {
    let mut limits = plan.limits.clone();
    if !limits
        .iter()
        .any(|limit| limit.resource == Resource::Nofile)
    {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = Some(DEFAULT_DESCRIPTORS);
        limits.push(ResourceLimit {
            resource: Resource::Nofile,
            limit,
        });
    }
    limits
}

/// The agent's end, which does not block, and the process's. The pipe is its
/// user's, so that `/dev/stdout` can be opened again.
fn pipe_for(kind: StreamKind, owner: Uid) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let (own, child) = match kind {
        StreamKind::Stdin => (writer, reader),
        _ => (reader, writer),
    };
    ioctl_fionbio(&own, true)?;
    if !owner.is_root() {
        fchown(&own, Some(owner), None)?;
    }
    Ok((own, child))
}

/// Forks with another pid namespace for the child. The agent's own stays what
/// it is; only where its children are born changes, and is changed back.
fn in_pid_namespace<T>(
    namespace: BorrowedFd<'_>,
    fork: impl FnOnce() -> Result<T, LaunchError>,
) -> Result<T, LaunchError> {
    let join = |namespace: BorrowedFd<'_>| {
        move_into_thread_name_spaces(namespace, ThreadNameSpaceType::PROCESS_ID)
    };
    let own = File::open("/proc/self/ns/pid").map_err(LaunchError::PidNamespace)?;
    join(namespace).map_err(|error| LaunchError::PidNamespace(error.into()))?;
    let result = fork();
    join(own.as_fd()).expect("a process may always have children in its own pid namespace");
    result
}
