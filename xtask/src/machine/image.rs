//! The initramfs of a machine: busybox, `init.sh`, the job, and for a packed
//! root the files that the job needs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::job::Job;
use crate::cpio::Archive;

const INIT: &str = include_str!("init.sh");

/// The shell and tools of `init.sh`; Debian's `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

/// Where the root of the job comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// The files of the machine that runs xtask, through virtiofs.
    Machine,
    /// What the job shares and busybox, in the initramfs itself.
    Packed,
}

/// What the machine's channels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    /// virtio-serial ports with names.
    Virtio,
    /// The second to fourth serial line.
    Serial,
}

/// Writes the initramfs for `job` to the file `path`.
pub(super) fn write(path: &Path, job: &Job, root: Root, ports: Ports) -> Result<()> {
    let context = || format!("write {}", path.display());
    let output = File::create(path).with_context(context)?;
    let mut image = Image::new(BufWriter::new(output));
    image.base(job, root, ports)?;
    if root == Root::Packed {
        image.packed(job)?;
    }
    image.archive.finish().with_context(context)?;
    Ok(())
}

struct Image<W> {
    archive: Archive<W>,
    folders: BTreeSet<String>,
}

impl<W: Write> Image<W> {
    fn new(output: W) -> Self {
        Self {
            archive: Archive::new(output),
            folders: BTreeSet::new(),
        }
    }

    fn base(&mut self, job: &Job, root: Root, ports: Ports) -> Result<()> {
        for folder in [
            "bin", "dev", "proc", "sys", "root", "machine", "changes", "packed",
        ] {
            self.folder(folder)?;
        }
        self.archive
            .character_device("dev/console", 0o600, (5, 1))?;
        self.busybox("bin")?;
        self.archive.file("init", 0o755, INIT.as_bytes())?;
        self.archive
            .file("job", 0o755, job.script(root).as_bytes())?;
        let settings = format!(
            "PORTS={}\nROOT={}\nCGROUPS={}\n",
            ports.name(),
            root.name(),
            job.cgroups().name()
        );
        self.archive.file("settings", 0o644, settings.as_bytes())?;
        let mut visible = String::new();
        for path in job.visible()? {
            let _ = writeln!(visible, "{}", path.display());
        }
        self.archive.file("visible", 0o644, visible.as_bytes())
    }

    fn busybox(&mut self, folder: &str) -> Result<()> {
        let busybox = fs::read(BUSYBOX).with_context(|| format!("read {BUSYBOX}"))?;
        self.archive
            .file(&format!("{folder}/busybox"), 0o755, &busybox)?;
        self.archive.symlink(&format!("{folder}/sh"), b"busybox")?;
        Ok(())
    }

    fn packed(&mut self, job: &Job) -> Result<()> {
        self.folder("packed/bin")?;
        self.busybox("packed/bin")?;
        self.folder(&inside(job.folder())?)?;
        for path in job.shared() {
            let target = inside(path)?;
            if let Some((parent, _)) = target.rsplit_once('/') {
                self.folder(parent)?;
            }
            let source = fs::canonicalize(path)?;
            self.archive.tree(&target, &source)?;
        }
        Ok(())
    }

    /// Adds a folder and those above it, once.
    fn folder(&mut self, path: &str) -> Result<()> {
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            if self.folders.insert(path[..end].into()) {
                self.archive.directory(&path[..end], 0o755)?;
            }
        }
        Ok(())
    }
}

/// The path within the initramfs at which a packed file lies.
fn inside(path: &Path) -> Result<String> {
    let path = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(format!("packed{path}"))
}

impl Root {
    fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Packed => "packed",
        }
    }
}

impl Ports {
    fn name(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Serial => "serial",
        }
    }
}
