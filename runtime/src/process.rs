//! Processes of the host that outlive the command that asks about them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// A process, told apart from later ones of the same pid by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRef {
    /// Its pid.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot (`proc_pid_stat(5)`).
    start_time: u64,
}

impl ProcessRef {
    /// The process that has this pid now.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let pid = pid.cast_signed();
        match Stat::read(pid)? {
            Some(stat) => Ok(Self {
                pid,
                start_time: stat.start_time,
            }),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The calling process.
    pub(crate) fn current() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// Whether it still runs; a zombie does not.
    pub(crate) fn is_alive(self) -> bool {
        Stat::read(self.pid)
            .is_ok_and(|stat| stat.is_some_and(|s| s.start_time == self.start_time && !s.is_dead))
    }

    /// A handle on the process, if it still runs: no other process can take
    /// its place under the handle.
    pub(crate) fn open(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            // The pid may have changed hands before it was opened, not after.
            Ok(handle) => Ok(self.is_alive().then_some(handle)),
            // The second if its pid still names a process group or session.
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Kills the process if it still runs.
    pub(crate) fn kill(self) -> io::Result<()> {
        let Some(handle) = self.open()? else {
            return Ok(());
        };
        match rustix::process::pidfd_send_signal(handle, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// What `/proc/<pid>/stat` tells.
struct Stat {
    is_dead: bool,
    start_time: u64,
}

impl Stat {
    /// `None` if there is no such process.
    fn read(pid: i32) -> io::Result<Option<Self>> {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(text) => Self::parse(&text)
                .map(Some)
                .ok_or(io::ErrorKind::InvalidData.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            // The process ended between the open and the read.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the command's name, which may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        // Field 22; `state` is field 3.
        let start_time = fields.nth(18)?.parse().ok()?;
        Some(Self {
            is_dead: matches!(state, "Z" | "X" | "x"),
            start_time,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn own_process_is_alive() {
        let own = ProcessRef::current().unwrap();
        assert!(own.is_alive());
        assert!(own.open().unwrap().is_some());
    }

    #[test]
    fn pid_of_another_time_is_not_trusted() {
        let mut stale = ProcessRef::current().unwrap();
        stale.start_time -= 1;
        assert!(!stale.is_alive());
        assert!(stale.open().unwrap().is_none());
    }

    #[test]
    fn zombie_is_dead() {
        let mut child = Command::new("true").spawn().unwrap();
        let process = ProcessRef::of(child.id()).unwrap();
        let pid = Pid::from_child(&child);
        let options =
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).unwrap();
        assert!(!process.is_alive());
        process.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn process_that_is_survived_by_its_group_is_gone() {
        let mut leader = Command::new("sh")
            .args(["-c", "sleep 1000 >/dev/null & echo $!; read line"])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let process = ProcessRef::of(leader.id()).unwrap();
        let mut line = String::new();
        let output = leader.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let member = ProcessRef::of(line.trim().parse().unwrap()).unwrap();
        leader.wait().unwrap();
        let opened = process.open();
        member.kill().unwrap();
        assert!(opened.unwrap().is_none());
    }

    #[test]
    fn command_name_may_look_like_fields() {
        let fields: Vec<String> = (4..=30).map(|n| n.to_string()).collect();
        let stat = Stat::parse(&format!("12 (a) Z 1) S {}", fields.join(" "))).unwrap();
        assert!(!stat.is_dead);
        assert_eq!(stat.start_time, 22);
    }
}
