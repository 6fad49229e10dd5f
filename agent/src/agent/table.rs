//! The containers and their processes, and how to find them.

use std::collections::BTreeMap;

use bulkhead_protocol::ProcessId;
use rustix::process::Pid;

use super::container::Container;
use super::process::Process;

/// All containers. Their processes are found by name, as clients know them; by
/// key, as the event loop does; and by process id until they are reaped.
#[derive(Debug, Default)]
pub(super) struct Table {
    containers: BTreeMap<String, Container>,
    names: BTreeMap<u64, ProcessId>,
    /// A key means one process for ever; an id is the kernel's to use again.
    keys: BTreeMap<i32, u64>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.containers.len()
    }

    pub(super) fn container(&self, id: &str) -> Option<&Container> {
        self.containers.get(id)
    }

    pub(super) fn container_mut(&mut self, id: &str) -> Option<&mut Container> {
        self.containers.get_mut(id)
    }

    pub(super) fn containers_mut(&mut self) -> impl Iterator<Item = &mut Container> {
        self.containers.values_mut()
    }

    pub(super) fn process_mut(&mut self, name: &ProcessId) -> Option<&mut Process> {
        let container = self.containers.get_mut(&name.container)?;
        match &name.exec {
            None => Some(&mut container.init),
            Some(exec) => container.execs.get_mut(exec),
        }
    }

    pub(super) fn by_key(&mut self, key: u64) -> Option<&mut Process> {
        let name = self.names.get(&key)?.clone();
        self.process_mut(&name)
    }

    pub(super) fn insert_container(&mut self, id: String, container: Container) {
        self.index(&container.init);
        self.containers.insert(id, container);
    }

    /// Adds a process to its container.
    pub(super) fn insert_exec(&mut self, process: Process) {
        let ProcessId { container, exec } = process.name.clone();
        if let (Some(container), Some(exec)) = (self.containers.get_mut(&container), exec) {
            self.names.insert(process.key, process.name.clone());
            self.keys.insert(process.pid.as_raw_pid(), process.key);
            container.execs.insert(exec, process);
        }
    }

    /// Finds the process of an id that was reaped, and forgets the id.
    pub(super) fn reaped(&mut self, pid: Pid) -> Option<u64> {
        self.keys.remove(&pid.as_raw_pid())
    }

    pub(super) fn remove_exec(&mut self, name: &ProcessId) {
        let container = self.containers.get_mut(&name.container);
        let exec = name.exec.as_ref();
        if let (Some(container), Some(exec)) = (container, exec)
            && let Some(process) = container.execs.remove(exec)
        {
            self.unindex(&process);
        }
    }

    /// Forgets a process of a container that has ended, and whose end nobody
    /// has asked for. Returns whether there was one.
    pub(super) fn forget_ended_exec(&mut self, container: &str) -> bool {
        let ended = self
            .containers
            .get(container)
            .and_then(|container| container.execs.values().find(|process| process.is_over()))
            .map(|process| process.name.clone());
        ended.is_some_and(|name| {
            self.remove_exec(&name);
            true
        })
    }

    pub(super) fn remove_container(&mut self, id: &str) -> Option<Container> {
        let container = self.containers.remove(id)?;
        for process in container.processes() {
            self.unindex(process);
        }
        Some(container)
    }

    fn index(&mut self, process: &Process) {
        self.names.insert(process.key, process.name.clone());
        self.keys.insert(process.pid.as_raw_pid(), process.key);
    }

    fn unindex(&mut self, process: &Process) {
        self.names.remove(&process.key);
        let pid = process.pid.as_raw_pid();
        if self.keys.get(&pid) == Some(&process.key) {
            self.keys.remove(&pid);
        }
    }
}
