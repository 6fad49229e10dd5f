//! What clients ask for.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;

use bulkhead_protocol::{
    ContainerState, ContainerStatus, CreateContainer, ExecProcess, Network, ProcessId, RequestBody,
    Response, WindowSize,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::thread::ThreadNameSpaceType;

use super::Agent;
use super::container::{Container, is_valid_id};
use super::launch::{Order, Place};
use super::process::{Phase, Process, ReplyTo};
use super::request_error::{RequestError, Result};
use crate::cgroup::{Cgroup, Hierarchy};
use crate::child::{self, Init, Launch};
use crate::config::{self, Config};
use crate::plan::{ContainerPlan, ProcessPlan};
use crate::stream::Stream;
use crate::sys::Forked;
use crate::{guest, network};

/// Most containers in a sandbox.
pub(super) const MAX_CONTAINERS: usize = 256;

/// Most processes that `exec` added to a container, ended ones that nobody
/// waited for included.
pub(super) const MAX_EXECS: usize = 1024;

/// Longest seccomp filter, in bytes (`BPF_MAXINSNS` of eight each).
const MAX_SECCOMP_FILTER: usize = 4096 * 8;

impl Agent {
    /// Carries out a request, or what can be done of it at once: the answer
    /// may come later.
    pub(super) fn handle_request(&mut self, to: ReplyTo, body: RequestBody) {
        let done = match body {
            RequestBody::Network(network) => self.set_up_network(&network),
            RequestBody::Create(request) => self.create(to, &request),
            RequestBody::Start { container } => self.start(to, &container),
            RequestBody::Exec(request) => self.exec(to, *request),
            RequestBody::Signal {
                process,
                signal,
                all,
            } => self.signal(&process, signal, all),
            RequestBody::Resize { process, size } => self.resize(&process, size),
            RequestBody::Wait { process } => self.wait(to, &process),
            RequestBody::Status { container } => self.status(&container),
            RequestBody::Freeze { container, frozen } => self.freeze(to, &container, frozen),
            RequestBody::Limit {
                container,
                resources,
            } => self.limit(&container, &resources),
            RequestBody::Usage { container } => self.usage(&container),
            RequestBody::Processes { container } => self.processes(&container),
            RequestBody::Delete { container, force } => self.delete(to, &container, force),
            RequestBody::Shutdown => {
                self.shut_down = true;
                Ok(None)
            }
        };
        match done {
            Ok(Some(response)) => self.reply(to, Ok(response)),
            Ok(None) => {}
            Err(error) => self.reply(to, Err(error.into())),
        }
    }

    fn set_up_network(&mut self, network: &Network) -> Result<Option<Response>> {
        network::set_up(network)?;
        self.has_network = true;
        Ok(Some(Response::Done))
    }

    fn create(&mut self, to: ReplyTo, request: &CreateContainer) -> Result<Option<Response>> {
        let id = &request.container;
        if !is_valid_id(id) {
            return Err(RequestError::IllegalId(id.clone()));
        }
        if self.table.container(id).is_some() {
            return Err(RequestError::ContainerExists(id.clone()));
        }
        if self.table.len() >= MAX_CONTAINERS {
            return Err(RequestError::TooManyContainers);
        }
        let seccomp_filter = check_filter(request.seccomp_filter.as_deref())?;
        let config: Config = request.spec.parse()?;
        let plan = Rc::new(ContainerPlan::new(&config)?);
        guest::provide(&plan)?;
        let cgroup = self.make_cgroup(id, &plan)?;
        let order = Order {
            name: ProcessId {
                container: id.clone(),
                exec: None,
            },
            plan: &plan.process,
            seccomp_filter,
            stdio: request.stdio,
            owner: plan.namespaces.uid_outside(plan.process.uid),
            ready: Some(to),
            start: None,
            client: None,
        };
        match self.launch_init(&plan, &cgroup, order) {
            Ok(init) => {
                let container = Container {
                    plan,
                    cgroup,
                    init,
                    execs: BTreeMap::new(),
                    freezing: None,
                    deleting: Vec::new(),
                };
                self.table.insert_container(id.clone(), container);
                Ok(None)
            }
            Err(error) => {
                self.discard(cgroup);
                Err(error)
            }
        }
    }

    fn make_cgroup(&mut self, id: &str, plan: &ContainerPlan) -> Result<Cgroup> {
        let cgroup = self.hierarchy()?.create(id, &plan.cgroup.controllers)?;
        match cgroup.configure(&plan.cgroup) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                self.discard(cgroup);
                Err(error.into())
            }
        }
    }

    /// Opened when the first container needs it.
    fn hierarchy(&mut self) -> Result<&Hierarchy> {
        let opened = match self.hierarchy.take() {
            Some(opened) => opened,
            None => Hierarchy::open(self.settings.cgroups.clone())?,
        };
        Ok(self.hierarchy.insert(opened))
    }

    fn launch_init(
        &mut self,
        plan: &ContainerPlan,
        cgroup: &Cgroup,
        order: Order<'_>,
    ) -> Result<Process> {
        let open = |path| open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let pid_namespace = plan.namespaces.pid_namespace().map(open).transpose();
        let pid_namespace = pid_namespace
            .map_err(|error| RequestError::system("open the pid namespace")(error.into()))?;
        let has_user = plan.namespaces.new.contains(ThreadNameSpaceType::USER);
        let place = Place {
            namespaces: plan.namespaces.new,
            id_maps: has_user.then_some(&plan.namespaces.id_maps),
            pid_namespace: pid_namespace.as_ref().map(AsFd::as_fd),
            cgroup: cgroup.as_fd(),
        };
        let id = order.name.container.clone();
        let child = |proof: &Forked, launch: Launch<'_>| child::run_init(proof, &id, plan, launch);
        Ok(self.launch(order, &place, child)?)
    }

    fn start(&mut self, to: ReplyTo, id: &str) -> Result<Option<Response>> {
        let container = self.container_mut(id)?;
        let key = container.init.key;
        let state = match &mut container.init.phase {
            Phase::SettingUp { start, .. } if start.is_none() => {
                *start = Some(to);
                return Ok(None);
            }
            Phase::Ready { .. } => {
                self.start_process(key, to);
                return Ok(None);
            }
            Phase::SettingUp { .. } | Phase::Starting { .. } => "starting already",
            Phase::Running => "running already",
            _ => "stopped",
        };
        Err(RequestError::State {
            container: id.to_owned(),
            state,
        })
    }

    fn exec(&mut self, to: ReplyTo, request: ExecProcess) -> Result<Option<Response>> {
        let name = request.process;
        let Some(exec) = name.exec.as_ref().filter(|exec| !exec.is_empty()) else {
            return Err(RequestError::UnnamedExec);
        };
        let container = self.container_mut(&name.container)?;
        if container.execs.contains_key(exec) {
            return Err(RequestError::ProcessExists(exec.clone()));
        }
        let container_plan = Rc::clone(&container.plan);
        let is_full = container.execs.len() >= MAX_EXECS;
        if is_full && !self.table.forget_ended_exec(&name.container) {
            return Err(RequestError::TooManyExecs);
        }
        let seccomp_filter = check_filter(request.seccomp_filter.as_deref())?;
        let config: config::Process = request.spec.parse()?;
        let plan = ProcessPlan::new(&config)?;
        let order = Order {
            name,
            plan: &plan,
            seccomp_filter,
            stdio: request.stdio,
            owner: container_plan.namespaces.uid_outside(plan.uid),
            ready: None,
            start: Some(to),
            client: Some(to.connection),
        };
        let process = self.launch_exec(order, request.cgroup.as_deref())?;
        self.table.insert_exec(process);
        Ok(None)
    }

    fn launch_exec(&mut self, order: Order<'_>, cgroup: Option<&Path>) -> Result<Process> {
        let container = self.container_mut(&order.name.container)?;
        let init = &container.init;
        if !matches!(
            init.phase,
            Phase::Ready { .. } | Phase::Starting { .. } | Phase::Running
        ) {
            let state = if init.exit().is_some() {
                "stopped"
            } else {
                "not ready yet"
            };
            let container = order.name.container;
            return Err(RequestError::State { container, state });
        }
        let plan = Rc::clone(&container.plan);
        let pid = init.pid;
        let init = init.pidfd.try_clone();
        let init = init.map_err(RequestError::system("hold the container's init"))?;
        let cgroup = match cgroup {
            None => self.hierarchy()?.of_process(pid),
            Some(path) => container.cgroup.open_below(path),
        };
        let cgroup = cgroup.map_err(RequestError::system("open the cgroup for the process"))?;
        let place = Place {
            namespaces: ThreadNameSpaceType::empty(),
            id_maps: None,
            pid_namespace: plan.namespaces.has_pid_namespace().then_some(init.as_fd()),
            cgroup: cgroup.as_fd(),
        };
        let namespaces = plan.namespaces.to_join_for_exec();
        let child = |proof: &Forked, launch: Launch<'_>| {
            let init = Init {
                pid,
                pidfd: init.as_fd(),
            };
            child::run_exec(proof, init, namespaces, launch)
        };
        Ok(self.launch(order, &place, child)?)
    }

    fn signal(&mut self, name: &ProcessId, signal: u8, all: bool) -> Result<Option<Response>> {
        let sent = if all {
            self.container_mut(&name.container)?.cgroup.signal(signal)
        } else {
            self.living_process(name)?.signal(signal)
        };
        sent.map_err(RequestError::system("send the signal"))?;
        Ok(Some(Response::Done))
    }

    fn resize(&mut self, name: &ProcessId, size: WindowSize) -> Result<Option<Response>> {
        let terminal = self
            .living_process(name)?
            .terminal()
            .ok_or(RequestError::NoTerminal)?;
        terminal
            .resize(size)
            .map_err(RequestError::system("set the terminal's size"))?;
        Ok(Some(Response::Done))
    }

    fn wait(&mut self, to: ReplyTo, name: &ProcessId) -> Result<Option<Response>> {
        let process = self.process_mut(name)?;
        let Phase::Over(exit) = process.phase else {
            process.waiting.push(to);
            return Ok(None);
        };
        self.table.remove_exec(name);
        Ok(Some(Response::Exited(exit)))
    }

    fn status(&mut self, id: &str) -> Result<Option<Response>> {
        let container = self.container_mut(id)?;
        Ok(Some(Response::Status(ContainerStatus {
            state: container.init.state(),
            pid: container.init.pid.as_raw_pid() as u32,
            exit: container.init.exit(),
        })))
    }

    fn delete(&mut self, to: ReplyTo, id: &str, force: bool) -> Result<Option<Response>> {
        let container = self.container_mut(id)?;
        if container.init.state() != ContainerState::Stopped && !force {
            let container = id.to_owned();
            let state = "not stopped";
            return Err(RequestError::State { container, state });
        }
        let killed = container.cgroup.kill();
        killed.map_err(RequestError::system("kill the container's processes"))?;
        container.deleting.push(to);
        // Nobody will read on; what is still to come must not hold it up.
        let streams = container
            .processes_mut()
            .flat_map(|process| &mut process.streams);
        streams.for_each(Stream::close);
        let keys: Vec<_> = container.processes().map(|process| process.key).collect();
        for key in keys {
            self.advance_streams(key);
        }
        self.finish_deletes();
        Ok(None)
    }

    pub(super) fn container_mut(&mut self, id: &str) -> Result<&mut Container> {
        let missing = || RequestError::NoContainer(id.to_owned());
        self.table.container_mut(id).ok_or_else(missing)
    }

    fn process_mut(&mut self, name: &ProcessId) -> Result<&mut Process> {
        let container = name.container.clone();
        match &name.exec {
            None => self
                .table
                .process_mut(name)
                .ok_or(RequestError::NoContainer(container)),
            Some(exec) => {
                let exec = exec.clone();
                let missing = RequestError::NoProcess { container, exec };
                self.table.process_mut(name).ok_or(missing)
            }
        }
    }

    fn living_process(&mut self, name: &ProcessId) -> Result<&mut Process> {
        let process = self.process_mut(name)?;
        match process.exit() {
            Some(_) => Err(RequestError::Ended),
            None => Ok(process),
        }
    }
}

fn check_filter(filter: Option<&[u8]>) -> Result<Option<&[u8]>> {
    match filter.map(<[u8]>::len) {
        Some(len) if len == 0 || len % 8 != 0 || len > MAX_SECCOMP_FILTER => {
            Err(RequestError::SeccompFilter(len))
        }
        _ => Ok(filter),
    }
}
