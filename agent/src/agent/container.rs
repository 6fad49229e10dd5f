//! A container, as the agent keeps it.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::process::{Process, ReplyTo};
use crate::cgroup::Cgroup;
use crate::plan::ContainerPlan;

/// A container and what belongs to it.
#[derive(Debug)]
pub(super) struct Container {
    /// What it was made from.
    pub(super) plan: Rc<ContainerPlan>,
    /// Its cgroup.
    pub(super) cgroup: Cgroup,
    /// Its first process.
    pub(super) init: Process,
    /// Further processes, by name.
    pub(super) execs: BTreeMap<String, Process>,
    /// Who is told when its processes stand still, or go on.
    pub(super) freezing: Option<Freezing>,
    /// Who is told when it is deleted.
    pub(super) deleting: Vec<ReplyTo>,
}

/// A request to stop a container's processes, or to let them go on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Freezing {
    pub(super) to: ReplyTo,
    pub(super) frozen: bool,
}

impl Container {
    /// All its processes.
    pub(super) fn processes(&self) -> impl Iterator<Item = &Process> {
        std::iter::once(&self.init).chain(self.execs.values())
    }

    /// All its processes.
    pub(super) fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        std::iter::once(&mut self.init).chain(self.execs.values_mut())
    }
}

/// Longest container id, as a file name.
const MAX_ID_LEN: usize = 255;

/// Whether a string can be a container's id, and so the name of its cgroup.
pub(super) fn is_valid_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    let is_directory = matches!(id, "." | "..");
    !id.is_empty() && id.len() <= MAX_ID_LEN && !is_directory && id.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_file_names() {
        for id in ["a-b_c.d+0", ".hidden", "..."] {
            assert!(is_valid_id(id), "{id}");
        }
        for id in ["", ".", "..", "a/b", "a b", "\0", "ä", &"x".repeat(256)] {
            assert!(!is_valid_id(id), "{id}");
        }
    }
}
