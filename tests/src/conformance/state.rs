//! What the runtime says of a container, and where it says it.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Check;
use super::bench::Bench;

pub(super) const CASES: &[(&str, Check)] = &[
    ("state", state),
    ("state_status_follows_the_life_cycle", status),
    ("state_annotations", annotations),
    ("misc_props", unknown_properties),
    ("pidfile", pidfile),
];

fn state(bench: &Bench) -> Result<()> {
    bench.run(["state"])?.fails("no id")?;
    bench.run(["state", "nobody"])?.fails("an unknown id")?;
    let container = bench.container().idle();
    container.create()?;
    let state = container.state()?;
    ensure!(state["id"] == container.id(), "another id: {state}");
    ensure!(
        state["bundle"].as_str() == container.bundle().to_str(),
        "another bundle: {state}"
    );
    let version = state["ociVersion"].as_str().unwrap_or_default();
    ensure!(version.starts_with("1."), "not a version: {state}");
    ensure!(is_alive(&state["pid"]), "no process has the pid: {state}");
    Ok(())
}

fn is_alive(pid: &Value) -> bool {
    pid.as_u64()
        .is_some_and(|pid| pid > 0 && std::fs::exists(format!("/proc/{pid}")).unwrap_or(false))
}

fn status(bench: &Bench) -> Result<()> {
    let container = bench.container().script("exit 3");
    container.create()?;
    container.has_status("created")?;
    container.start()?;
    container.wait_stopped()?;

    let container = bench.container().idle();
    container.create_and_start()?;
    container.has_status("running")?;
    container.stop()?;
    let pid = &container.state()?["pid"];
    ensure!(!is_alive(pid), "a stopped container has the pid {pid}");
    Ok(())
}

fn annotations(bench: &Bench) -> Result<()> {
    let annotations = json!({ "org.example.one": "1", "org.example.empty": "" });
    let container = bench.container().set("/annotations", annotations.clone());
    container.create()?;
    let told = &container.state()?["annotations"];
    for (key, value) in annotations.as_object().into_iter().flatten() {
        ensure!(told[key] == *value, "{key} is missing in {told}");
    }
    Ok(())
}

/// What a runtime does not know it ignores (config.md, "Extensibility").
fn unknown_properties(bench: &Bench) -> Result<()> {
    let container = bench.container().script("echo fine");
    let container = container
        .set("/unknown", json!({ "deep": [1] }))
        .set("/process/unknown", json!(true))
        .set("/linux/unknown", json!("text"))
        .set("/linux/resources/unknown", json!({}))
        .set("/annotations", json!({ "org.example.unknown": "value" }));
    container.prints("fine")
}

fn pidfile(bench: &Bench) -> Result<()> {
    let container = bench.container().idle();
    let file = bench.path().join("pid");
    container.create_with(&["--pid-file", &file.display().to_string()])?;
    let written = std::fs::read_to_string(&file)?;
    let pid = container.state()?["pid"].to_string();
    ensure!(written == pid, "the file says {written:?}, the state {pid}");
    Ok(())
}
