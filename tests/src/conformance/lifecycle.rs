//! The operations, and when each of them is an error (runtime.md).

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Check;
use super::bench::Bench;
use super::command::wait_until;

pub(super) const CASES: &[(&str, Check)] = &[
    ("create", create),
    ("create_invalid_id", create_invalid_id),
    ("create_invalid_config", create_invalid_config),
    ("config_updates_without_affect", config_updates),
    ("options_before_and_after_id", options_after_id),
    ("start", start),
    ("start_without_process", start_without_process),
    ("kill", kill),
    ("kill_no_effect", kill_no_effect),
    ("killsig", killsig),
    ("delete", delete),
    ("delete_resources", delete_resources),
    ("delete_only_create_resources", delete_only_create_resources),
];

fn create(bench: &Bench) -> Result<()> {
    let container = bench.container().script("touch /ran; sleep 1000");
    bench.run(["create"])?.fails("neither id nor bundle")?;
    let empty = bench.path().join("empty");
    fs::create_dir(&empty)?;
    let empty = empty.display().to_string();
    bench
        .run(["create", "--bundle", &empty, container.id()])?
        .fails("a bundle without a configuration")?;
    container.create()?;
    container.has_status("created")?;
    ensure!(
        !container.file("/ran").exists(),
        "the command has run before start"
    );
    container.try_create(&[])?.fails("an id that is taken")?;
    container.has_status("created")
}

fn create_invalid_id(bench: &Bench) -> Result<()> {
    let container = bench.container();
    container.write()?;
    let bundle = container.bundle().display().to_string();
    for id in ["", "..", "a/b", "../escape"] {
        bench
            .run(["create", "--bundle", &bundle, id])?
            .fails(&format!("the id {id:?}"))?;
    }
    Ok(())
}

fn create_invalid_config(bench: &Bench) -> Result<()> {
    let relative = bench.container().set("/process/cwd", json!("tmp"));
    relative.is_refused("a working directory that is not absolute")?;
    let nowhere = bench.container().set("/root/path", json!("nowhere"));
    nowhere.is_refused("a root file system that is not there")?;
    let empty = bench.container().set("/process/args", json!([]));
    empty.is_refused("an empty command")?;
    let container = bench.container();
    fs::write(container.bundle().join("config.json"), "{")?;
    let bundle = container.bundle().display().to_string();
    bench
        .run(["create", "--bundle", &bundle, container.id()])?
        .fails("half a configuration")
}

fn config_updates(bench: &Bench) -> Result<()> {
    let container = bench.container().script("echo before; hostname");
    container.create()?;
    let mut changed = container.config.clone();
    changed["process"]["args"] = json!(["echo", "after"]);
    changed["hostname"] = json!("after");
    fs::write(container.bundle().join("config.json"), changed.to_string())?;
    container.start()?;
    container.wait_stopped()?;
    let output = container.output()?;
    ensure!(output == "before\nconformance\n", "it printed {output:?}");
    Ok(())
}

/// The specification leaves the command line open; engines rely on this much of it.
fn options_after_id(bench: &Bench) -> Result<()> {
    let container = bench.container().idle();
    container.write()?;
    let bundle = container.bundle().display().to_string();
    let id = container.id();
    for _ in 0..2 {
        bench.run(["create", id, "--bundle", &bundle])?.succeeds()?;
        container.has_status("created")?;
        bench.run(["delete", id, "--force"])?.succeeds()?;
        bench.run(["state", id])?.fails("a deleted container")?;
    }
    Ok(())
}

fn start(bench: &Bench) -> Result<()> {
    bench.run(["start"])?.fails("no id")?;
    bench.run(["start", "nobody"])?.fails("an unknown id")?;
    let container = bench.container().script("echo once; sleep 1000");
    container.create_and_start()?;
    container.has_status("running")?;
    container.wait_for_output("once")?;
    container.verb("start", &[])?.fails("a second start")?;
    container.has_status("running")?;
    container.stop()?;
    container.verb("start", &[])?.fails("to start again")?;
    container.has_status("stopped")?;
    ensure!(container.output()? == "once\n", "the command ran again");
    Ok(())
}

fn start_without_process(bench: &Bench) -> Result<()> {
    let mut container = bench.container();
    if let Some(config) = container.config.as_object_mut() {
        config.remove("process");
    }
    container.is_refused("no process")?;
    let nowhere = bench.container().args(&["/no/such/program"]);
    nowhere.is_refused("a command that is not there")?;
    let directory = bench.container().args(&["/etc"]);
    directory.is_refused("a command that may not be executed")
}

fn kill(bench: &Bench) -> Result<()> {
    bench.run(["kill"])?.fails("no id")?;
    bench
        .run(["kill", "nobody", "KILL"])?
        .fails("an unknown id")?;
    let created = bench.container().idle();
    created.create()?;
    created.stop()?;
    let running = bench.container().idle();
    running.create_and_start()?;
    running
        .verb("kill", &["NONSENSE"])?
        .fails("an unknown signal")?;
    running.has_status("running")?;
    running.stop()
}

fn kill_no_effect(bench: &Bench) -> Result<()> {
    let container = bench.container();
    container.create_and_start()?;
    container.wait_stopped()?;
    let before = container.state()?;
    container
        .verb("kill", &["KILL"])?
        .fails("a signal to a stopped container")?;
    let after = container.state()?;
    ensure!(before == after, "{before} became {after}");
    Ok(())
}

fn killsig(bench: &Bench) -> Result<()> {
    const SIGNALS: [(&str, &str); 6] = [
        ("HUP", "HUP"),
        ("SIGINT", "INT"),
        ("USR1", "USR1"),
        ("12", "USR2"),
        ("SIGTERM", "TERM"),
        ("WINCH", "WINCH"),
    ];
    let trap = |(_, name)| format!("trap 'echo got {name}.' {name}");
    let traps = SIGNALS.map(trap).join(
        "
",
    );
    let script = format!("{traps}\necho ready\n while :; do sleep 1000 & wait $!; done");
    let container = bench.container().script(&script);
    container.create_and_start()?;
    container.wait_for_output("ready")?;
    for (given, name) in SIGNALS {
        container.kill(given)?;
        container.wait_for_output(&format!("got {name}."))?;
    }
    container.has_status("running")?;
    container.stop()
}

fn delete(bench: &Bench) -> Result<()> {
    bench.run(["delete"])?.fails("no id")?;
    bench.run(["delete", "nobody"])?.fails("an unknown id")?;
    let container = bench.container().idle();
    container.create_and_start()?;
    container
        .verb("delete", &[])?
        .fails("to delete what is running")?;
    container.has_status("running")?;
    container.stop()?;
    container.delete()?;
    container.verb("state", &[])?.fails("a deleted container")?;
    container.verb("delete", &[])?.fails("to delete it again")
}

fn delete_resources(bench: &Bench) -> Result<()> {
    let container = bench.container().idle();
    let container = container.set("/linux/cgroupsPath", json!(bench.cgroup()));
    let cgroup = bench.cgroup_directory();
    for _ in 0..2 {
        container.create_and_start()?;
        ensure!(cgroup.is_dir(), "there is no {}", cgroup.display());
        let pid = container.state()?["pid"].clone();
        container.stop()?;
        container.delete()?;
        ensure!(!cgroup.exists(), "{} is still there", cgroup.display());
        wait_until("its process is gone", || Ok(!is_there(&pid)))?;
    }
    Ok(())
}

fn is_there(pid: &Value) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap_or(false)
}

fn delete_only_create_resources(bench: &Bench) -> Result<()> {
    let cgroup = bench.cgroup_directory();
    let sibling = cgroup.with_file_name("sibling");
    fs::create_dir_all(&sibling)?;
    let volume = bench.path().join("volume");
    fs::create_dir(&volume)?;
    let container = bench.container().script("echo written >/volume/file");
    let container = container
        .bind(&volume, "/volume", &["rbind", "rw"])
        .set("/linux/cgroupsPath", json!(bench.cgroup()));
    container.create_and_start()?;
    container.wait_stopped()?;
    container.delete()?;
    let is_kept = sibling.is_dir();
    fs::remove_dir(&sibling)?;
    ensure!(is_kept, "a control group beside it is gone");
    let written = fs::read_to_string(volume.join("file"))?;
    ensure!(written == "written\n", "the volume has {written:?}");
    ensure!(
        container.file("/bin/busybox").exists(),
        "the root file system is gone"
    );
    Ok(())
}
