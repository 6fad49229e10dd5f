//! The container that is measured: one program of a few instructions, which
//! tells when its first one ran and then idles.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use bulkhead_tests::machine_code;
use serde_json::{Value, json};

use crate::memory;
use crate::sample::{self, Sample, Timeline};

/// The guest's memory: as little as others are measured with.
const MEMORY_MIB: u32 = 128;

/// A bundle, and the installation that runs it.
#[derive(Debug)]
pub(crate) struct Container {
    bulkhead: PathBuf,
    bundle: PathBuf,
    state_root: PathBuf,
}

impl Container {
    /// Makes the bundle below `directory`.
    pub(crate) fn new(bulkhead: &Path, directory: &Path) -> anyhow::Result<Self> {
        let bundle = directory.join("bundle");
        let rootfs = bundle.join("rootfs");
        for name in ["proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(rootfs.join(name))?;
        }
        let program = rootfs.join("first");
        fs::write(
            &program,
            machine_code::program(machine_code::FIRST_INSTRUCTION),
        )?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let container = Self {
            bulkhead: bulkhead.into(),
            bundle,
            state_root: directory.join("state"),
        };
        container.write_config()?;
        Ok(container)
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let mut spec = self.command();
        spec.args(["spec", "--bundle"]).arg(&self.bundle);
        let status = spec.status().context("cannot run bulkhead spec")?;
        ensure!(status.success(), "bulkhead spec: {status}");
        let path = self.bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/first"]);
        config["annotations"] = json!({ "dev.bulkhead.memory-mib": MEMORY_MIB.to_string() });
        fs::write(&path, serde_json::to_vec(&config)?)?;
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.bulkhead);
        command.arg("--root").arg(&self.state_root);
        command
    }

    /// One start, up to an idle container, and its end.
    pub(crate) fn start_once(&self, id: &str) -> anyhow::Result<Sample> {
        let timeline = self.bundle.join(format!("{id}.timeline"));
        let mut run = self.command();
        run.args(["run", "--bundle"])
            .arg(&self.bundle)
            .arg("--timeline")
            .arg(&timeline)
            .arg(id);
        run.stdin(Stdio::null()).stdout(Stdio::piped());

        let exec_ns = sample::monotonic_ns();
        let mut child = run.spawn().context("cannot run bulkhead")?;
        let first_instruction_tsc = read_stamp(&mut child)
            .with_context(|| format!("container {id} did not reach its first instruction"))?;
        let memory = memory::of_pod(child.id())?;

        let status = self.command().args(["kill", id, "KILL"]).status()?;
        ensure!(status.success(), "bulkhead kill: {status}");
        let status = child.wait()?;
        ensure!(
            status.code() == Some(137),
            "bulkhead run ended with {status}, not with SIGKILL's code"
        );
        let text = fs::read(&timeline).with_context(|| format!("no {}", timeline.display()))?;
        let timeline: Timeline = serde_json::from_slice(&text)?;
        timeline.sample(exec_ns, first_instruction_tsc, memory)
    }
}

fn read_stamp(child: &mut Child) -> anyhow::Result<u64> {
    let mut stamp = [0; 8];
    child
        .stdout
        .as_mut()
        .context("piped")?
        .read_exact(&mut stamp)?;
    Ok(u64::from_le_bytes(stamp))
}
