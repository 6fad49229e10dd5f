//! Exports whose files belong to others in the guest than on the host: ID-mapped mounts
//! (`mount_setattr(2)`).

use std::fmt::Write;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::sys;

/// How the owners of an export's files are changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    /// Users.
    pub uids: Vec<IdRange>,
    /// Groups.
    pub gids: Vec<IdRange>,
    /// Whether what is mounted below the export is changed too.
    pub recursive: bool,
}

/// Ids in succession.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first one on the file system.
    pub stored: u32,
    /// What the guest sees it as, and gives for it.
    pub shown: u32,
    /// How many there are.
    pub count: u32,
}

impl IdMap {
    /// Changes a mount that is not attached anywhere yet.
    pub(crate) fn apply(&self, mount: impl AsFd) -> io::Result<()> {
        let namespace = self.namespace()?;
        sys::map_mount_ids(mount, &namespace, self.recursive)
    }

    /// A user namespace that has the mapping: the kernel takes it from one.
    fn namespace(&self) -> io::Result<OwnedFd> {
        let process = sys::UserNamespaceProcess::start()?;
        let directory = format!("/proc/{}", process.pid());
        fs::write(format!("{directory}/uid_map"), lines(&self.uids))?;
        fs::write(format!("{directory}/gid_map"), lines(&self.gids))?;
        Ok(fs::File::open(format!("{directory}/ns/user"))?.into())
    }
}

/// As in `user_namespaces(7)`; in one write, as is asked for there.
fn lines(ranges: &[IdRange]) -> String {
    ranges.iter().fold(String::new(), |mut text, range| {
        let IdRange {
            stored,
            shown,
            count,
        } = range;
        let _ = writeln!(text, "{stored} {shown} {count}");
        text
    })
}
