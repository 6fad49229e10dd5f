//! A container of the runtime on the bench.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::bench::Bench;
use super::command::{Ended, wait_until};
use super::config;
use crate::bundle::make_busybox_rootfs;

/// A bundle, and the container that is made of it.
#[derive(Debug)]
pub(super) struct Container<'b> {
    bench: &'b Bench<'b>,
    id: String,
    bundle: PathBuf,
    /// The configuration, to be edited at will.
    pub(super) config: Value,
    /// The last `create`, whose standard output the container has.
    created: RefCell<Option<Ended>>,
    /// Whether there may be something to clean up.
    may_exist: Cell<bool>,
}

impl<'b> Container<'b> {
    pub(super) fn new(bench: &'b Bench<'b>, id: String, bundle: PathBuf) -> Self {
        make_busybox_rootfs(&bundle.join("rootfs"));
        let config = config::default();
        Self {
            bench,
            id,
            bundle,
            config,
            created: RefCell::default(),
            may_exist: Cell::new(false),
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Its bundle's directory.
    pub(super) fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// A file in the root file system, as the host sees it.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.bundle
            .join("rootfs")
            .join(path.trim_start_matches('/'))
    }

    /// Sets the command.
    pub(super) fn args(self, args: &[&str]) -> Self {
        self.set("/process/args", json!(args))
    }

    /// Sets the command to a shell script.
    pub(super) fn script(self, script: &str) -> Self {
        self.args(&["/bin/sh", "-c", script])
    }

    /// Sets the command to one that does nothing, for a long time.
    pub(super) fn idle(self) -> Self {
        self.args(&["/bin/sleep", "1000"])
    }

    /// Sets a value by its JSON pointer; objects on its way are made.
    pub(super) fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut place = &mut self.config;
        for key in pointer.split('/').skip(1) {
            place = &mut place[key];
        }
        *place = value;
        self
    }

    /// Adds to an array, by its JSON pointer.
    pub(super) fn push(mut self, pointer: &str, value: Value) -> Self {
        let array = self.config.pointer_mut(pointer);
        let array = array.and_then(Value::as_array_mut);
        array.expect("the configuration has it").push(value);
        self
    }

    /// Adds a mount.
    pub(super) fn mount(self, mount: Value) -> Self {
        self.push("/mounts", mount)
    }

    /// Adds a bind mount of a directory or file of the host.
    pub(super) fn bind(self, source: &Path, destination: &str, options: &[&str]) -> Self {
        self.mount(json!({
            "destination": destination, "type": "bind", "source": source, "options": options,
        }))
    }

    /// Leaves a kind of namespace out.
    pub(super) fn without_namespace(mut self, kind: &str) -> Self {
        let namespaces = self.config["linux"]["namespaces"].as_array_mut();
        let namespaces = namespaces.expect("the configuration has it");
        namespaces.retain(|namespace| namespace["type"] != kind);
        self
    }

    /// Replaces what is said of a kind of namespace.
    pub(super) fn namespace(self, namespace: Value) -> Self {
        let kind = namespace["type"].as_str().unwrap_or_default().to_owned();
        self.without_namespace(&kind)
            .push("/linux/namespaces", namespace)
    }

    /// Writes `config.json`.
    pub(super) fn write(&self) -> Result<()> {
        let path = self.bundle.join("config.json");
        fs::write(path, self.config.to_string()).context("write config.json")
    }

    /// Creates the container, with further options.
    pub(super) fn try_create(&self, options: &[&str]) -> Result<Ended> {
        self.write()?;
        self.may_exist.set(true);
        let mut command = self.bench.command(["create", "--bundle"]);
        command.arg(&self.bundle).args(options).arg(&self.id);
        Ended::of(&mut command)
    }

    /// Creates the container, which must succeed.
    pub(super) fn create(&self) -> Result<()> {
        self.create_with(&[])
    }

    /// The same, with further options.
    pub(super) fn create_with(&self, options: &[&str]) -> Result<()> {
        let created = self.try_create(options)?.succeeds()?;
        *self.created.borrow_mut() = Some(created);
        Ok(())
    }

    /// What a created container has written to its standard output.
    pub(super) fn output(&self) -> Result<String> {
        let created = self.created.borrow();
        created
            .as_ref()
            .map_or(Ok(String::new()), |created| created.stdout.text())
    }

    /// `VERB ID ARGUMENTS`.
    pub(super) fn verb(&self, verb: &str, arguments: &[&str]) -> Result<Ended> {
        self.bench
            .run([verb, self.id.as_str()].iter().chain(arguments))
    }

    /// Starts the container, which must succeed.
    pub(super) fn start(&self) -> Result<()> {
        self.verb("start", &[])?.succeeds().map(drop)
    }

    /// Sends a signal, which must succeed.
    pub(super) fn kill(&self, signal: &str) -> Result<()> {
        self.verb("kill", &[signal])?.succeeds().map(drop)
    }

    /// Deletes the container, which must succeed.
    pub(super) fn delete(&self) -> Result<()> {
        self.verb("delete", &[])?.succeeds()?;
        self.may_exist.set(false);
        Ok(())
    }

    /// Creates and starts the container.
    pub(super) fn create_and_start(&self) -> Result<()> {
        self.create()?;
        self.start()
    }

    /// What `state` prints.
    pub(super) fn state(&self) -> Result<Value> {
        let text = self.verb("state", &[])?.succeeds()?.stdout.text()?;
        serde_json::from_str(&text).context("state does not print JSON")
    }

    /// Fails unless the container has this status.
    pub(super) fn has_status(&self, expected: &str) -> Result<()> {
        let state = self.state()?;
        let status = &state["status"];
        ensure!(status == expected, "status is {status}, not {expected}");
        Ok(())
    }

    /// Waits until the container has ended.
    pub(super) fn wait_stopped(&self) -> Result<()> {
        wait_until("the container has stopped", || {
            Ok(self.state()?["status"] == "stopped")
        })
    }

    /// Kills the container and waits for its end.
    pub(super) fn stop(&self) -> Result<()> {
        self.kill("KILL")?;
        self.wait_stopped()
    }

    /// Waits until the container has written `text`.
    pub(super) fn wait_for_output(&self, text: &str) -> Result<()> {
        let shown = wait_until(&format!("the container prints {text:?}"), || {
            Ok(self.output()?.contains(text))
        });
        shown.with_context(|| format!("it has printed {:?}", self.output().unwrap_or_default()))
    }

    /// Creates, starts and deletes the container, all by `run`.
    pub(super) fn run(&self) -> Result<Ended> {
        self.write()?;
        self.may_exist.set(true);
        let arguments = ["run".as_ref(), "--bundle".as_ref(), self.bundle.as_os_str()];
        let ended = self
            .bench
            .run(arguments.into_iter().chain([OsStr::new(&self.id)]))?;
        self.may_exist.set(false);
        Ok(ended)
    }

    /// What the container prints before it succeeds.
    pub(super) fn printed(&self) -> Result<String> {
        self.run()?.succeeds()?.stdout.text()
    }

    /// Fails unless the container prints exactly this, but for space around it.
    pub(super) fn prints(&self, expected: &str) -> Result<()> {
        let ended = self.run()?;
        let (text, messages) = (ended.stdout.text()?, ended.said()?);
        ensure!(
            text.trim() == expected.trim(),
            "it printed {text:?}, not {expected:?} ({messages})"
        );
        ended.succeeds().map(drop)
    }

    /// Fails unless the configuration is refused by `create` or, at the latest, `start`.
    pub(super) fn is_refused(&self, what: &str) -> Result<()> {
        let created = self.try_create(&[])?;
        if !created.is_success() {
            return created.fails(what);
        }
        let started = self.verb("start", &[])?;
        if !started.is_success() {
            return started.fails(what);
        }
        bail!("{what} is not refused")
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.may_exist.get() {
            // Whatever comes of it, the case has its result.
            let _ = self.verb("delete", &["--force"]);
        }
    }
}
