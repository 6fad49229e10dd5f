//! Intel VT-x with EPT in Bochs.
//!
//! Nothing is shared with it: the job's files are in the initramfs, on a CD. The
//! channels are serial lines, which Bochs writes to files.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::image::{self, Ports, Root};
use super::process::{self, Emulator};
use super::session::{Evidence, Lines, pump};
use super::{Job, Platform, Sink};
use crate::cargo;

const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 random.trust_cpu=1";

/// Where Debian's isolinux and syslinux-common put what a bootable CD needs.
const BOOT_LOADER: [&str; 2] = [
    "/usr/lib/ISOLINUX/isolinux.bin",
    "/usr/lib/syslinux/modules/bios/ldlinux.c32",
];

/// The files that hold what the serial lines said, in order.
const CHANNELS: [&str; 4] = ["console", "stdout", "stderr", "control"];

/// How often to look for more of what Bochs writes.
const TAIL_INTERVAL: Duration = Duration::from_millis(20);

pub(super) fn run(kernel: &Path, job: &Job, stdout: Sink, stderr: Sink) -> Result<u8> {
    let folder = process::folder()?;
    let machine = Machine {
        folder: folder.path(),
        job,
    };
    machine.make_cd(kernel)?;
    machine.configure()?;
    let ended = Arc::new(AtomicBool::new(false));
    let mut emulator = machine.start()?;
    let copies = [
        pump(machine.follow("stdout", &ended)?, stdout),
        pump(machine.follow("stderr", &ended)?, stderr),
    ];
    let lines = Lines::of(machine.follow("control", &ended)?);

    let end = lines.wait(&mut emulator, job.timeout)?;
    drop(emulator);
    ended.store(true, Ordering::Release);
    for copy in copies {
        let _ = copy.join();
    }
    end.exit_code(&Evidence {
        timeout: job.timeout,
        logs: ["bochs.log", "console"].map(|name| machine.file(name)),
        registers: None,
    })
}

struct Machine<'a> {
    folder: &'a Path,
    job: &'a Job,
}

impl Machine<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes a bootable CD of the kernel and the initramfs.
    fn make_cd(&self, kernel: &Path) -> Result<()> {
        let content = self.file("cd");
        fs::create_dir(&content).context("make a folder for the CD")?;
        for source in BOOT_LOADER.map(Path::new) {
            copy_into(source, &content)?;
        }
        fs::copy(kernel, content.join("bzImage"))
            .with_context(|| format!("copy {}", kernel.display()))?;
        image::write(
            &content.join("initramfs"),
            self.job,
            Root::Packed,
            Ports::Serial,
        )?;
        let menu = format!(
            "default host\nlabel host\nkernel bzImage\nappend initrd=initramfs {KERNEL_ARGUMENTS}\n"
        );
        fs::write(content.join("isolinux.cfg"), menu).context("write isolinux.cfg")?;
        let mut command = Command::new("xorriso");
        command
            .args(["-as", "mkisofs", "-o"])
            .arg(self.file("cd.iso"))
            .args(["-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot"])
            .args(["-boot-load-size", "4", "-boot-info-table"])
            .arg(&content);
        cargo::run_silently(&mut command)
    }

    fn configure(&self) -> Result<()> {
        let mut lines = String::new();
        for (n, name) in (1..).zip(CHANNELS) {
            let _ = writeln!(lines, "com{n}: enabled=1, mode=file, dev={name}");
        }
        let configuration = format!(
            "display_library: term\n\
             megs: {}\n\
             romimage: file=/usr/share/bochs/BIOS-bochs-latest\n\
             vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n\
             cpu: model=corei7_haswell_4770, count=1, ips=100000000, reset_on_triple_fault=0\n\
             clock: sync=none, time0=utc\n\
             boot: cdrom\n\
             ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
             ata0-master: type=cdrom, path=cd.iso, status=inserted\n\
             {lines}\
             log: bochs.log\n\
             panic: action=fatal\n\
             error: action=report\n\
             info: action=ignore\n\
             debug: action=ignore\n",
            self.job.memory_mib(Platform::Intel)
        );
        fs::write(self.file("bochsrc"), configuration).context("write bochsrc")?;
        // Debian's Bochs has its debugger built in, which asks what to do.
        fs::write(self.file("continue"), "c\n").context("write the debugger's commands")
    }

    /// Starts Bochs on a terminal of its own, for it insists on one.
    fn start(&self) -> Result<Emulator> {
        for name in CHANNELS {
            File::create(self.file(name)).context("create a serial line's file")?;
        }
        let mut command = process::dies_with_us(Path::new("script"));
        command
            .args(["--quiet", "--flush", "--return", "--command"])
            .arg("stty rows 50 cols 132; exec setpriv --pdeathsig KILL bochs-bin -q -f bochsrc -rc continue")
            .arg("terminal")
            .env("TERM", "xterm")
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Emulator::spawn(&mut command)
    }

    fn follow(&self, name: &str, ended: &Arc<AtomicBool>) -> Result<Tail> {
        let path = self.file(name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        Ok(Tail {
            file,
            ended: Arc::clone(ended),
        })
    }
}

/// A file that grows until `ended`.
struct Tail {
    file: File,
    ended: Arc<AtomicBool>,
}

impl Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Asked first: what was written before the end is read after it.
            let ended = self.ended.load(Ordering::Acquire);
            let count = self.file.read(buffer)?;
            if count > 0 || ended {
                return Ok(count);
            }
            thread::sleep(TAIL_INTERVAL);
        }
    }
}

fn copy_into(source: &Path, folder: &Path) -> Result<()> {
    let name = source.file_name().context("a file has a name")?;
    fs::copy(source, folder.join(name)).with_context(|| format!("copy {}", source.display()))?;
    Ok(())
}
