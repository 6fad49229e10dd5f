//! Hooks: when they run, what they are told, and what comes of those that fail.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Check;
use super::bench::Bench;

pub(super) const CASES: &[(&str, Check)] = &[
    ("hooks", hooks),
    ("hooks_stdin", hooks_stdin),
    ("hooks_arguments_and_environment", arguments),
    ("hooks_timeout", timeout),
    ("hooks_invalid", invalid),
    ("hooks_start_container", start_container),
    ("hooks_create_container_mounts", create_container_mounts),
    ("prestart", prestart),
    ("prestart_fail", |bench| creation_fails(bench, "prestart")),
    ("create_runtime_fail", |bench| {
        creation_fails(bench, "createRuntime")
    }),
    ("create_container_fail", |bench| {
        creation_fails(bench, "createContainer")
    }),
    ("start_container_fail", start_container_fail),
    ("poststart", poststart),
    ("poststart_fail", poststart_fail),
    ("poststop", poststop),
    ("poststop_fail", poststop_fail),
];

/// Those that run on the host, in their order.
const ON_THE_HOST: [&str; 5] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "poststart",
    "poststop",
];

/// A hook that is a script of the host's shell.
fn script(script: &str) -> Value {
    let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": env })
}

/// A hook that adds a line to the case's log.
fn note(bench: &Bench, line: &str) -> Value {
    script(&format!("echo {line} >>'{}'", log(bench)))
}

fn log(bench: &Bench) -> String {
    bench.path().join("log").display().to_string()
}

fn has_noted(bench: &Bench, expected: &[&str]) -> Result<()> {
    let text = fs::read_to_string(log(bench)).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    ensure!(lines == expected, "hooks noted {lines:?}, not {expected:?}");
    Ok(())
}

fn hooks(bench: &Bench) -> Result<()> {
    let mut container = bench.container().idle();
    for moment in ON_THE_HOST {
        let (first, second) = (note(bench, moment), note(bench, &format!("{moment}2")));
        container = container.set(&format!("/hooks/{moment}"), json!([first, second]));
    }
    let all = ON_THE_HOST.map(|moment| [moment.to_owned(), format!("{moment}2")]);
    let all: Vec<_> = all.iter().flatten().map(String::as_str).collect();
    container.create()?;
    has_noted(bench, &all[..6])?;
    container.start()?;
    has_noted(bench, &all[..8])?;
    container.stop()?;
    has_noted(bench, &all[..8])?;
    container.delete()?;
    has_noted(bench, &all)
}

fn hooks_stdin(bench: &Bench) -> Result<()> {
    let statuses = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    let annotations = json!({ "org.example.key": "value" });
    let file = |moment| bench.path().join(moment);
    let mut container = bench.container().idle();
    container = container.set("/annotations", annotations.clone());
    for moment in ON_THE_HOST {
        let hook = script(&format!("cat >'{}'", file(moment).display()));
        container = container.set(&format!("/hooks/{moment}"), json!([hook]));
    }
    container.create_and_start()?;
    let pid = container.state()?["pid"].clone();
    container.stop()?;
    container.delete()?;
    for (moment, status) in statuses {
        let state: Value = serde_json::from_slice(&fs::read(file(moment))?)?;
        let bundle = container.bundle().to_str();
        ensure!(
            state["id"] == container.id() && state["bundle"].as_str() == bundle,
            "{moment} was told of another container: {state}"
        );
        ensure!(
            state["status"] == status,
            "{moment} was told a status other than {status}: {state}"
        );
        ensure!(state["ociVersion"].is_string(), "{moment}: {state}");
        // In the container's namespace it may be another; after its end there is none.
        let knows_pid = ["createContainer", "poststop"].contains(&moment) || state["pid"] == pid;
        ensure!(
            knows_pid,
            "{moment} was told a pid other than {pid}: {state}"
        );
        let has_annotations = state["annotations"]["org.example.key"] == "value";
        ensure!(has_annotations, "{moment} lacks annotations: {state}");
    }
    Ok(())
}

fn arguments(bench: &Bench) -> Result<()> {
    let script = format!(
        "echo \"$0|$1|$#|$KEY|$(env | grep -c KEY)\" >>'{}'",
        log(bench)
    );
    let hook = json!({
        "path": "/bin/sh",
        "args": ["other-name", "-c", script, "zero", "one two", ""],
        "env": ["KEY=some value", "PATH=/usr/bin:/bin"],
    });
    let container = bench.container();
    container.set("/hooks/prestart", json!([hook])).prints("")?;
    has_noted(bench, &["zero|one two|2|some value|1"])
}

fn timeout(bench: &Bench) -> Result<()> {
    let mut hook = script("exec sleep 100");
    hook["timeout"] = json!(1);
    let container = bench.container().set("/hooks/prestart", json!([hook]));
    container.try_create(&[])?.fails("a hook that hangs")
}

fn invalid(bench: &Bench) -> Result<()> {
    let relative = json!([{ "path": "bin/sh" }]);
    let container = bench.container().set("/hooks/prestart", relative);
    container.is_refused("a hook whose path is not absolute")?;
    let mut hook = script("true");
    hook["timeout"] = json!(0);
    let container = bench.container().set("/hooks/prestart", json!([hook]));
    container.is_refused("a timeout of nothing")
}

/// This one runs in the container, before its process.
fn start_container(bench: &Bench) -> Result<()> {
    let hook = json!({
        "path": "/bin/sh", "env": ["PATH=/bin"],
        "args": ["sh", "-c", "hostname >/noted; grep -o '\"status\": *\"[a-z]*\"' | tr -d ' ' >>/noted"],
    });
    let container = bench.container().script("cat /noted; echo process");
    let container = container.set("/hooks/startContainer", json!([hook]));
    container.create()?;
    ensure!(
        !container.file("/noted").exists(),
        "it has run before start"
    );
    container.start()?;
    container.wait_stopped()?;
    let output = container.output()?;
    let lines: Vec<_> = output.lines().collect();
    let is_as_expected =
        matches!(lines[..], ["conformance", status, "process"] if status.contains("created"));
    ensure!(is_as_expected, "the container printed {output:?}");
    Ok(())
}

/// What `createContainer` mounts below the root, the container has.
fn create_container_mounts(bench: &Bench) -> Result<()> {
    let container = bench.container().script("cat /place/file");
    let place = container.file("/place");
    fs::create_dir(&place)?;
    let place = place.display();
    let hook = script(&format!(
        "mount -t tmpfs tmpfs '{place}' && echo mounted >'{place}/file'"
    ));
    container
        .set("/hooks/createContainer", json!([hook]))
        .prints("mounted")
}

/// The namespaces are there, and the process is not yet.
fn prestart(bench: &Bench) -> Result<()> {
    let hook = script(&format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')
         nsenter --target $pid --net true && echo entered >>'{}'",
        log(bench)
    ));
    let container = bench.container().script("touch /ran");
    let container = container.set("/hooks/prestart", json!([hook]));
    container.create()?;
    has_noted(bench, &["entered"])?;
    ensure!(!container.file("/ran").exists(), "the process ran before");
    container.start()?;
    container.wait_stopped()
}

fn creation_fails(bench: &Bench, moment: &str) -> Result<()> {
    let container = bench.container().script("touch /ran");
    let hooks = json!([script("exit 1"), note(bench, "went on")]);
    let container = container.set(&format!("/hooks/{moment}"), hooks);
    container.is_refused("a hook that fails")?;
    ensure!(!container.file("/ran").exists(), "the process has run");
    has_noted(bench, &[])
}

fn start_container_fail(bench: &Bench) -> Result<()> {
    let hook = json!({ "path": "/bin/false" });
    let container = bench.container().script("touch /ran");
    let container = container.set("/hooks/startContainer", json!([hook]));
    container.is_refused("a hook that fails")?;
    ensure!(!container.file("/ran").exists(), "the process has run");
    Ok(())
}

fn poststart(bench: &Bench) -> Result<()> {
    let container = bench.container().idle();
    let container = container.set("/hooks/poststart", json!([note(bench, "poststart")]));
    container.create()?;
    has_noted(bench, &[])?;
    container.start()?;
    has_noted(bench, &["poststart"])?;
    container.has_status("running")
}

/// An error, which ends the container (runtime.md, "Lifecycle").
fn poststart_fail(bench: &Bench) -> Result<()> {
    let container = bench.container().idle();
    let container = container.set("/hooks/poststart", json!([script("exit 1")]));
    container.create()?;
    container.verb("start", &[])?.fails("a hook that fails")?;
    container.wait_stopped()
}

fn poststop(bench: &Bench) -> Result<()> {
    let container = bench.container().idle();
    let container = container.set("/hooks/poststop", json!([note(bench, "poststop")]));
    container.create_and_start()?;
    container.stop()?;
    has_noted(bench, &[])?;
    container.delete()?;
    has_noted(bench, &["poststop"])
}

/// A warning, and the rest goes on.
fn poststop_fail(bench: &Bench) -> Result<()> {
    let container = bench.container().idle();
    let hooks = json!([script("exit 1"), note(bench, "went on")]);
    let container = container.set("/hooks/poststop", hooks);
    container.create_and_start()?;
    container.stop()?;
    container.delete()?;
    has_noted(bench, &["went on"])?;
    container.verb("state", &[])?.fails("a deleted container")
}
