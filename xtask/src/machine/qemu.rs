//! AMD SVM in QEMU's TCG.
//!
//! QEMU must be 10 or newer: older ones lose wake-ups under nested SVM.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use super::image::{self, Ports, Root};
use super::process::{self, Emulator};
use super::session::{End, Evidence, Lines, pump};
use super::{Job, Platform, Sink, qmp};
use crate::setup::VIRTIOFSD;

const QEMU: &str = "qemu-system-x86_64";

/// How long a hanging machine has to list its processes.
const REPORT_TIMEOUT: Duration = Duration::from_secs(15);

/// Arguments of every machine's kernel: only errors on the console, a panic
/// ends the machine, entropy from the emulated RDRAND.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 random.trust_cpu=1";

/// Where files come from outside, a page of memory that held code may be filled again
/// without QEMU's notice, which then runs what it has translated before. One boot in
/// some dozens had a shared library whose programs all crashed. Pages that the kernel
/// clears are noticed.
const FILE_SERVER_KERNEL_ARGUMENTS: &str = "init_on_alloc=1";

/// With them and QEMU's `-seed`, every boot takes the same course. The local APIC's
/// timer fails its half-second check in deterministic time and would not be used.
const DETERMINISTIC_KERNEL_ARGUMENTS: &str = "nokaslr norandmaps nolapic_timer";

/// The channels out of the machine: sockets in its folder, and the names of its
/// virtio-serial ports.
const CHANNELS: [&str; 3] = ["stdout", "stderr", "control"];

pub(super) fn run(
    icount: bool,
    kernel: &Path,
    job: &Job,
    stdout: Sink,
    stderr: Sink,
) -> Result<u8> {
    let folder = process::folder()?;
    let machine = Machine {
        folder: folder.path(),
        icount,
        job,
    };
    let root = machine.root();
    image::write(&machine.file("initramfs"), job, root, Ports::Virtio)?;
    let _file_server = match root {
        Root::Machine => Some(machine.serve_files()?),
        Root::Packed => None,
    };
    let listeners = machine.listen()?;
    let mut emulator = machine.start(kernel)?;
    let Some([output, errors, control]) = emulator.accept(&listeners)? else {
        return End::EmulatorGone.exit_code(&machine.evidence(None));
    };
    let copies = [pump(output, stdout), pump(errors, stderr)];
    let lines = Lines::of(control.try_clone().context("share the control channel")?);

    let end = lines.wait(&mut emulator, job.timeout)?;
    let registers = machine.question(end, &control, &lines);
    drop(emulator);
    for copy in copies {
        let _ = copy.join();
    }
    end.exit_code(&machine.evidence(registers))
}

struct Machine<'a> {
    folder: &'a Path,
    icount: bool,
    job: &'a Job,
}

impl Machine<'_> {
    /// With deterministic time nothing may wait for files from outside.
    fn root(&self) -> Root {
        if self.icount {
            Root::Packed
        } else {
            Root::Machine
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn listen(&self) -> Result<[UnixListener; 3]> {
        let [output, errors, control] = CHANNELS.map(|name| {
            let path = self.file(name);
            UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))
        });
        Ok([output?, errors?, control?])
    }

    /// Starts virtiofsd, which takes its listening socket as standard input.
    fn serve_files(&self) -> Result<Emulator> {
        let socket = UnixListener::bind(self.file("files")).context("listen for QEMU")?;
        let mut command = process::dies_with_us(&VIRTIOFSD.path()?);
        command
            .args([
                "--fd",
                "0",
                "--shared-dir",
                "/",
                "--readonly",
                "--sandbox",
                "none",
            ])
            .args(["--no-announce-submounts", "--cache", "always", "--xattr"])
            .args(["--log-level", "error"])
            .stdin(OwnedFd::from(socket));
        Emulator::spawn(&mut command)
    }

    fn start(&self, kernel: &Path) -> Result<Emulator> {
        let log = File::create(self.file("qemu.log")).context("create QEMU's log")?;
        let mut command = process::dies_with_us(Path::new(QEMU));
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-no-reboot",
                "-display",
                "none",
            ])
            .args(["-M", "q35", "-accel", "tcg", "-cpu", "max,+svm"])
            .args(["-smp", &self.job.cpus().to_string()])
            .args([
                "-m",
                &format!(
                    "{}M",
                    self.job.memory_mib(Platform::Amd {
                        icount: self.icount
                    })
                ),
            ])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(self.file("initramfs"))
            .args(["-append", &self.kernel_arguments()])
            .args(self.channel_arguments())
            .args(self.file_server_arguments())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share QEMU's log")?)
            .stderr(log);
        if self.icount {
            command
                .args(["-icount", "shift=0,sleep=off", "-seed", "1"])
                .args(["-rtc", "base=2026-01-01,clock=vm"]);
        }
        Emulator::spawn(&mut command)
    }

    fn kernel_arguments(&self) -> String {
        let further = match self.root() {
            Root::Machine => FILE_SERVER_KERNEL_ARGUMENTS,
            Root::Packed => DETERMINISTIC_KERNEL_ARGUMENTS,
        };
        format!("{KERNEL_ARGUMENTS} {further}")
    }

    fn channel_arguments(&self) -> Vec<String> {
        let folder = self.folder.display();
        let mut arguments = vec![
            "-serial".into(),
            format!("file:{folder}/console"),
            "-qmp".into(),
            format!("unix:{folder}/qmp,server=on,wait=off"),
            "-device".into(),
            // With ioeventfd another thread would handle the machine's output, at
            // its own pace: the machine's time would depend on it.
            "virtio-serial-pci,ioeventfd=off".into(),
        ];
        for name in CHANNELS {
            arguments.extend([
                "-chardev".into(),
                format!("socket,id={name},path={folder}/{name}"),
                "-device".into(),
                format!("virtserialport,chardev={name},name={name}"),
            ]);
        }
        arguments
    }

    fn file_server_arguments(&self) -> Vec<String> {
        if self.root() == Root::Packed {
            return Vec::new();
        }
        let folder = self.folder.display();
        vec![
            "-object".into(),
            format!(
                "memory-backend-memfd,id=memory,size={}M,share=on",
                self.job.memory_mib(Platform::Amd {
                    icount: self.icount
                })
            ),
            "-numa".into(),
            "node,memdev=memory".into(),
            "-chardev".into(),
            format!("socket,id=files,path={folder}/files"),
            "-device".into(),
            "vhost-user-fs-pci,chardev=files,tag=machine".into(),
        ]
    }

    /// Asks a machine that hangs where it does: has its processes listed on its
    /// console, and gives its registers.
    fn question(&self, end: End, mut control: &UnixStream, lines: &Lines) -> Option<String> {
        if end == End::JobTimeout && control.write_all(b"report\n").is_ok() {
            lines.next(REPORT_TIMEOUT);
        }
        match end {
            End::JobTimeout | End::BootTimeout => qmp::registers(&self.file("qmp")).ok(),
            End::Exited(_) | End::EmulatorGone => None,
        }
    }

    fn evidence(&self, registers: Option<String>) -> Evidence {
        Evidence {
            timeout: self.job.timeout,
            logs: ["qemu.log", "console"].map(|name| self.file(name)),
            registers,
        }
    }
}
