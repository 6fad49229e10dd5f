//! Processes of a container, as `/proc` shows them.

use std::fs;
use std::os::unix::fs::MetadataExt;

use bulkhead_protocol::ProcessInfo;

/// Most processes that are told of: they must fit in a frame.
const MAX: usize = 4096;

/// Longest command line that is told, in bytes.
const MAX_COMMAND: usize = 256;

/// Clock ticks a second, for all of `/proc` (`USER_HZ`).
const TICKS: u64 = 100;

/// Those of `pids` that there still are.
pub(crate) fn describe(pids: impl IntoIterator<Item = i32>) -> Vec<ProcessInfo> {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime = uptime.split('.').next().and_then(|s| s.parse().ok());
    let describe = |pid| describe_one(pid, uptime.unwrap_or_default());
    pids.into_iter().filter_map(describe).take(MAX).collect()
}

fn describe_one(pid: i32, uptime: u64) -> Option<ProcessInfo> {
    let directory = format!("/proc/{pid}");
    let stat = fs::read(format!("{directory}/stat")).ok()?;
    let stat = Stat::parse(&String::from_utf8_lossy(&stat))?;
    let command = fs::read(format!("{directory}/cmdline")).unwrap_or_default();
    Some(ProcessInfo {
        pid,
        parent: stat.parent,
        uid: fs::metadata(&directory).ok()?.uid(),
        cpu_ms: stat.ticks * 1000 / TICKS,
        age_s: uptime.saturating_sub(stat.started / TICKS),
        terminal: stat.terminal,
        command: command_line(&command).unwrap_or_else(|| format!("[{}]", stat.name)),
    })
}

/// Arguments end with a NUL each. `None` for a process that shows none.
fn command_line(bytes: &[u8]) -> Option<String> {
    let shown = &bytes[..bytes.len().min(MAX_COMMAND)];
    let text = String::from_utf8_lossy(shown);
    let words: Vec<_> = text.split('\0').filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// What is of interest of `/proc/PID/stat`.
struct Stat {
    name: String,
    parent: i32,
    terminal: u32,
    ticks: u64,
    started: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the name in parentheses, which may hold any.
        let (before, rest) = text.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        // From here on, field n of the manual is the one at n - 3.
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        let number = |n: usize| fields.get(n - 3)?.parse::<i64>().ok();
        let count = |n: usize| u64::try_from(number(n)?).ok();
        Some(Self {
            name: name.to_owned(),
            parent: number(4)?.try_into().ok()?,
            terminal: number(7)?.try_into().unwrap_or_default(),
            ticks: count(14)? + count(15)?,
            started: count(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let pid = std::process::id().cast_signed();
        let processes = describe([pid, -1]);
        assert_eq!(processes.len(), 1);
        assert_eq!(processes[0].pid, pid);
        assert!(processes[0].parent > 0);
        assert!(processes[0].command.contains("bulkhead_agent"));
    }

    #[test]
    fn names_may_hold_parentheses() {
        let line = "7 (a) (b) S 1 7 7 34816 7 4 1 2 3 4 10 20 5 6 20 0 1 0 500 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent), ("a) (b", 1));
        assert_eq!((stat.terminal, stat.ticks, stat.started), (34816, 30, 500));
        assert!(Stat::parse("7 (short) S 1").is_none());
    }

    #[test]
    fn command_lines_are_joined_and_cut() {
        assert_eq!(command_line(b"sh\0-c\0x y\0").as_deref(), Some("sh -c x y"));
        assert_eq!(command_line(b""), None);
        assert_eq!(command_line(&[b'a'; 9999]).unwrap().len(), MAX_COMMAND);
    }
}
