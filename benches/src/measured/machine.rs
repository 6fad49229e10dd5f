//! What machine it is.

use std::fs;

use rustix::system::uname;
use serde::Serialize;

use super::Host;

/// The machine that was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// As `/proc/cpuinfo` has it.
    pub cpu_model: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Memory.
    pub memory_mib: u64,
    /// Name and release of the kernel.
    pub kernel: String,
    /// VT-x, AMD-V, or nothing.
    pub virtualization: Option<String>,
    /// Whether the processor says that it is a virtual one: guests are nested.
    pub is_virtual: bool,
}

impl Machine {
    pub(super) fn of(host: Host) -> Self {
        // What is not known is left empty: none of it is worth a failure.
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let name = uname();
        let kernel = format!(
            "{} {}",
            name.sysname().to_string_lossy(),
            name.release().to_string_lossy()
        );
        Self {
            cpu_model: value(&cpuinfo, "model name").unwrap_or_default().into(),
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            memory_mib: memory_kib(&meminfo).unwrap_or(0) / 1024,
            kernel,
            virtualization: host.virtualization.map(Into::into),
            is_virtual: value(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        }
    }
}

fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(found, _)| found.trim() == key)?;
    Some(value.trim())
}

fn memory_kib(meminfo: &str) -> Option<u64> {
    value(meminfo, "MemTotal")?
        .strip_suffix(" kB")?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found() {
        let text = "processor\t: 0\nmodel name\t: Some CPU: X\nflags\t\t: fpu vme\n";
        assert_eq!(value(text, "model name"), Some("Some CPU: X"));
        assert_eq!(value(text, "bogus"), None);
        assert_eq!(memory_kib("MemTotal:       4096 kB\n"), Some(4096));
    }
}
