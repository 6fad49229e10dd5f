//! Containers that cannot be: each says why, and leaves nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bulkhead_protocol::{ErrorKind, ExitStatus};
use serde_json::json;

use crate::bundle::Rootfs;

#[test]
fn commands_that_cannot_be_executed_are_told_apart() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let script = |name: &str, text: &str, mode| {
        let path = rootfs.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    script("no-interpreter", "#!/no/such/shell\n", 0o755);
    script("not-executable", "#!/bin/sh\n", 0o644);
    script("no-program", "\x7fELFnot", 0o755);
    for (command, kind, word) in [
        ("no-such-command", ErrorKind::CommandNotFound, "$PATH"),
        ("/no/such/file", ErrorKind::CommandNotFound, "No such file"),
        ("/no-interpreter", ErrorKind::CommandNotFound, "interpreter"),
        (
            "/not-executable",
            ErrorKind::CommandNotExecutable,
            "Permission denied",
        ),
        (
            "/no-program",
            ErrorKind::CommandNotExecutable,
            "Exec format error",
        ),
        ("/etc", ErrorKind::CommandNotExecutable, "Is a directory"),
    ] {
        let error = agent.run("a", &rootfs.config(&[command])).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(
            error.message.contains(word) && error.message.contains(command),
            "{error}"
        );
        // Those that only `execve` finds out about have been created.
        let _ = agent.delete("a", true);
        assert!(!agent.cgroup().join("a").exists());
    }
}

#[test]
fn what_cannot_be_mounted_is_named() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    for (mount, words) in [
        (
            json!({"destination": "/x", "type": "nofs", "source": "x"}),
            ["nofs", "/x"],
        ),
        (
            json!({"destination": "/x", "type": "tmpfs", "options": ["nonsense=1"]}),
            ["nonsense", "/x"],
        ),
        (
            json!({"destination": "/x", "type": "bind", "source": "/no/such"}),
            ["/no/such", "No such file"],
        ),
        (
            json!({"destination": "/etc/passwd/x", "type": "tmpfs", "source": "tmpfs"}),
            ["/etc/passwd/x", "Not a directory"],
        ),
    ] {
        let mut config = rootfs.shell("true");
        config["mounts"].as_array_mut().unwrap().push(mount);
        let error = agent.run("a", &config).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal);
        assert!(
            words.iter().all(|word| error.message.contains(word)),
            "{error}"
        );
        assert!(!agent.cgroup().join("a").exists());
    }
}

#[test]
fn missing_root_and_bad_configuration_are_told() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let mut config = rootfs.shell("true");
    config["root"]["path"] = json!("/no/such/root");
    let error = agent.run("a", &config).unwrap_err();
    assert!(error.message.contains("/no/such/root"), "{error}");

    let mut config = rootfs.shell("true");
    config["linux"]["namespaces"] = json!([{"type": "nonsense"}]);
    let error = agent.run("a", &config).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    assert!(error.message.contains("nonsense"), "{error}");

    let error = agent.run("../a", &rootfs.shell("true")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
}

#[test]
fn an_id_in_use_is_refused_and_its_owner_unharmed() {
    let mut agent = agent_or_skip!();
    let rootfs = Rootfs::new();
    let started = agent
        .start_container("a", &rootfs.config(&["cat"]), None)
        .unwrap();
    let error = agent.run("a", &rootfs.shell("true")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::AlreadyExists);
    let outcome = started.finish(&mut agent.connection, b"still here");
    assert_eq!(
        (&*outcome.stdout, outcome.exit),
        ("still here", ExitStatus::Code(0))
    );
}
