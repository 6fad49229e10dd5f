//! Hooks, on the host and in the guest.

use std::fs;

use bulkhead_tests::{Bundle, World};
use serde_json::{Value, json};

/// A hook that appends a line made of `what` and of its container's status to a
/// log of the host.
fn noting(world: &World, what: &str) -> Value {
    let log = world.path().join("hooks");
    let script = format!(
        "echo {what} $(grep -o '\"status\":\"[a-z]*\"' | cut -d'\"' -f4) >>'{}'",
        log.display()
    );
    script_hook(&script)
}

fn script_hook(script: &str) -> Value {
    let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": env })
}

fn noted(world: &World) -> Vec<String> {
    let log = fs::read_to_string(world.path().join("hooks")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// A bundle with a hook of each moment on the host.
fn with_all_hooks(world: &World) -> Bundle<'_> {
    let moments = [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ];
    let hooks: serde_json::Map<_, _> = moments
        .into_iter()
        .map(|moment| (moment.to_owned(), json!([noting(world, moment)])))
        .collect();
    world.bundle().shell("true").set("/hooks", hooks.into())
}

const CREATION: [&str; 3] = [
    "prestart creating",
    "createRuntime creating",
    "createContainer creating",
];

#[test]
fn hooks_run_in_their_order_and_know_the_state() {
    let world = World::new();
    let bundle = with_all_hooks(&world);
    bundle.create("c1");
    assert_eq!(noted(&world), CREATION);
    let _ = world.run(["start", "c1"]).expect_code(0);
    assert_eq!(noted(&world)[3..], ["poststart running"]);
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
    assert_eq!(noted(&world)[4..], ["poststop stopped"]);
}

#[test]
fn hooks_of_a_container_in_the_foreground() {
    let world = World::new();
    let _ = with_all_hooks(&world).run().expect_code(0);
    let noted = noted(&world);
    assert_eq!(noted[..3], CREATION);
    assert_eq!(noted[3..], ["poststart running", "poststop stopped"]);
}

#[test]
fn hook_that_fails_prevents_the_container_and_says_why() {
    let world = World::new();
    let bundle = world.bundle().shell("true").set(
        "/hooks",
        json!({
            "createRuntime": [script_hook("echo no network left >&2; exit 3"),
                              noting(&world, "never")],
            "poststop": [noting(&world, "poststop")],
        }),
    );
    let outcome = bundle.run().expect_code(1);
    let _ = outcome
        .expect_message("createRuntime hook /bin/sh exited with code 3")
        .expect_message("no network left");
    assert_eq!(noted(&world), ["poststop stopped"]);
}

#[test]
fn hook_that_hangs_is_ended_in_time() {
    let world = World::new();
    let mut hook = script_hook("sleep 1000 & sleep 1000");
    hook["timeout"] = json!(1);
    let bundle = world.bundle().shell("true");
    let bundle = bundle.set("/hooks", json!({ "prestart": [hook] }));
    let _ = bundle.run().expect_code(1).expect_message("within 1 s");
}

#[test]
fn container_does_not_outlive_a_failed_poststart_hook() {
    let world = World::new();
    let hooks = json!({ "poststart": [script_hook("exit 1")] });
    let bundle = world.bundle().command(&["/bin/sleep", "1000"]);
    let bundle = bundle.set("/hooks", hooks);
    let _ = bundle.run().expect_code(1).expect_message("poststart");
    bundle.create("c1");
    let _ = world.run(["start", "c1"]).expect_code(1);
    let _ = world.run(["delete", "--force", "c1"]).expect_code(0);
}

#[test]
fn what_a_create_container_hook_mounts_is_the_containers_alone() {
    let world = World::new();
    let bundle = world.bundle().shell("cat /mnt/file");
    fs::create_dir_all(bundle.file("/mnt")).unwrap();
    let mnt = bundle.file("/mnt").display().to_string();
    let script = format!("mount -t tmpfs tmpfs '{mnt}' && echo mounted >'{mnt}/file'");
    let hooks = json!({ "createContainer": [script_hook(&script)] });
    let outcome = bundle.set("/hooks", hooks).run().expect_code(0);
    assert_eq!(outcome.stdout, "mounted\n");
}

#[test]
fn start_container_hook_runs_in_the_container_before_its_command() {
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("cat /state")
        .set("/annotations", json!({ "key": "value" }))
        .set(
            "/hooks",
            json!({ "startContainer": [script_hook("cat >/state; echo unseen")] }),
        );
    let outcome = bundle.run().expect_code(0);
    let state: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(state["id"], "test");
    assert_eq!(state["status"], "created");
    assert_eq!(state["annotations"]["key"], "value");
}

#[test]
fn start_container_hook_that_fails_fails_the_start() {
    let world = World::new();
    let hooks = json!({ "startContainer": [script_hook("echo not today; exit 1")] });
    let bundle = world.bundle().shell("true").set("/hooks", hooks);
    let outcome = bundle.run().expect_code(1);
    let _ = outcome.expect_message("not today");
}
