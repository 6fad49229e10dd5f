//! Bare VMMs: a guest kernel, booted to a first process that says so and
//! switches the machine off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::bundle::Size;
use crate::error::Error;
use crate::machine_code;
use crate::pod::milliseconds;
use crate::process::{Process, line};
use crate::watch::Watch;

/// Parameters of the kernel for all: no messages, and an end without a pause if
/// all else fails.
const CMDLINE: &str = "console=ttyS0 quiet loglevel=0 panic=-1 reboot=k";

/// A VMM that the bench knows how to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bulkhead,
    Qemu,
    Firecracker,
    CloudHypervisor,
}

impl Kind {
    /// The kind of a program, by its name.
    pub(super) fn of(program: &Path) -> Option<Self> {
        let name = program.file_name()?.to_str()?;
        let kinds = [
            ("qemu", Self::Qemu),
            ("firecracker", Self::Firecracker),
            ("cloud-hypervisor", Self::CloudHypervisor),
        ];
        let is_it = |(start, _): &(&str, Self)| name.starts_with(start);
        kinds.into_iter().find(is_it).map(|(_, kind)| kind)
    }
}

/// A VMM and what it boots.
#[derive(Debug)]
pub(super) struct Vmm {
    kind: Kind,
    program: PathBuf,
    kernel: PathBuf,
    initramfs: PathBuf,
    /// Its configuration, for those that read one.
    config: PathBuf,
    scratch: PathBuf,
    size: Size,
    watch: Watch,
}

/// One boot, in milliseconds since the VMM's exec.
#[derive(Debug, Clone, Copy)]
pub(super) struct Boot {
    pub(super) first_output_ms: f64,
    pub(super) run_ms: f64,
}

impl Vmm {
    /// Prepares `directory` for boots of `kernel`.
    pub(super) fn new(
        kind: Kind,
        program: &Path,
        kernel: &Path,
        size: Size,
        directory: &Path,
        watch: &Watch,
    ) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
        let vmm = Self {
            kind,
            program: program.to_owned(),
            kernel: kernel.to_owned(),
            initramfs: directory.join("init.cpio"),
            config: directory.join("config.json"),
            scratch: directory.to_owned(),
            size,
            watch: watch.clone(),
        };
        let files = [
            (&vmm.initramfs, initramfs()),
            (&vmm.config, vmm.configuration().into_bytes()),
        ];
        for (path, content) in files {
            fs::write(path, content).map_err(Error::io("write", path))?;
        }
        Ok(vmm)
    }

    fn configuration(&self) -> String {
        let Size { vcpus, memory_mib } = self.size;
        let config = match self.kind {
            Kind::Bulkhead => json!({
                "kernel": self.kernel, "initramfs": self.initramfs, "cmdline": CMDLINE,
                "vcpus": vcpus, "memory_mib": memory_mib, "console": { "path": "/proc/self/fd/1" },
            }),
            Kind::Firecracker => json!({
                "boot-source": {
                    "kernel_image_path": self.kernel, "initrd_path": self.initramfs,
                    "boot_args": format!("{CMDLINE} pci=off"),
                },
                "drives": [],
                "machine-config": { "vcpu_count": vcpus, "mem_size_mib": memory_mib },
            }),
            Kind::Qemu | Kind::CloudHypervisor => json!(null),
        };
        config.to_string()
    }

    /// The command of a boot.
    pub(super) fn command(&self) -> Command {
        let Size { vcpus, memory_mib } = self.size;
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Bulkhead => {
                command.args(["vmm", "--config"]).arg(&self.config);
            }
            Kind::Firecracker => {
                command
                    .args(["--no-api", "--config-file"])
                    .arg(&self.config);
            }
            Kind::Qemu => {
                let machine =
                    "microvm,acpi=off,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=on";
                command.args(["-M", machine, "-accel", "kvm", "-cpu", "host"]);
                command.args(["-smp", &vcpus.to_string(), "-m", &format!("{memory_mib}M")]);
                command.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
                command.args(["-display", "none", "-serial", "stdio"]);
                command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]);
                command.arg("-kernel").arg(&self.kernel);
                command.arg("-initrd").arg(&self.initramfs);
                command.args(["-append", CMDLINE]);
            }
            Kind::CloudHypervisor => {
                command.args(["--cpus", &format!("boot={vcpus}")]);
                command.args(["--memory", &format!("size={memory_mib}M")]);
                command.args(["--serial", "tty", "--console", "off"]);
                command.arg("--kernel").arg(&self.kernel);
                command.arg("--initramfs").arg(&self.initramfs);
                command.args(["--cmdline", CMDLINE]);
            }
        }
        command
    }

    /// The command, as one would type it.
    pub(super) fn command_line(&self) -> String {
        line(&self.command())
    }

    /// Boots the guest and waits for its end.
    pub(super) fn boot(&self, id: &str) -> Result<Boot, Error> {
        let stderr = self.scratch.join(format!("{id}.stderr"));
        let mut process = Process::start(&mut self.command(), stderr, &self.watch)?;
        let seen_ns = process.read_until(machine_code::INIT_MARK)?;
        // How it ends is each VMM's own: QEMU's debug exit has code 1.
        let (_, ended_ns) = process.wait()?;
        Ok(Boot {
            first_output_ms: milliseconds(process.exec_ns, seen_ns),
            run_ms: milliseconds(process.exec_ns, ended_ns),
        })
    }
}

/// An archive with the first process and nothing else, in the 'newc' format
/// (Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`).
fn initramfs() -> Vec<u8> {
    let init = machine_code::program(machine_code::INIT);
    let mut archive = Vec::new();
    for (name, mode, content) in [
        ("init", 0o100_755, init.as_slice()),
        ("TRAILER!!!", 0, [].as_slice()),
    ] {
        let (name_len, size) = (name.len() + 1, content.len());
        archive.extend(b"070701");
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
        // rdevmajor, rdevminor, namesize, check
        for field in [0, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_len, 0] {
            archive.extend(format!("{field:08x}").bytes());
        }
        archive.extend(name.bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_known_by_their_names() {
        let kind = |path| Kind::of(Path::new(path));
        assert_eq!(kind("/usr/bin/qemu-system-x86_64"), Some(Kind::Qemu));
        assert_eq!(kind("/opt/firecracker-v1.12"), Some(Kind::Firecracker));
        assert_eq!(kind("cloud-hypervisor-static"), Some(Kind::CloudHypervisor));
        assert_eq!(kind("/usr/sbin/runc"), None);
    }

    #[test]
    fn archive_holds_the_program_and_ends() {
        let archive = initramfs();
        let program = machine_code::program(machine_code::INIT);
        // Header of 110 bytes and the name, padded to a multiple of four.
        assert_eq!(&archive[116..116 + program.len()], program);
        assert!(archive.windows(10).any(|window| window == b"TRAILER!!!"));
        assert_eq!(archive.len() % 4, 0);
    }
}
