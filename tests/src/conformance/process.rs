//! The container's process (config.md, "Process").

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Check;
use super::bench::Bench;
use super::container::Container;

pub(super) const CASES: &[(&str, Check)] = &[
    ("process", process),
    ("process_command_by_path", command_by_path),
    ("process_user", user),
    ("process_umask", umask),
    ("process_rlimits", rlimits),
    ("process_rlimits_fail", rlimits_fail),
    ("process_oom_score_adj", oom_score_adj),
    ("process_capabilities", capabilities),
    ("process_capabilities_ambient", capabilities_ambient),
    ("process_capabilities_fail", capabilities_fail),
    ("process_no_new_privileges", no_new_privileges),
    ("process_io_priority", io_priority),
    ("process_scheduler", scheduler),
    ("linux_process_apparmor_profile", apparmor_profile),
    ("linux_process_selinux_label", selinux_label),
    ("linux_personality", personality),
];

fn process(bench: &Bench) -> Result<()> {
    let script = r#"pwd; echo "$WORDS|$EMPTY|$0|$1|$#"; env | grep -c ONLY; echo $$"#;
    let args = ["/bin/sh", "-c", script, "a b", "*", ""];
    let env = ["PATH=/bin", "WORDS=two words", "EMPTY=", "ONLY=1"];
    let container = bench.container().args(&args);
    let container = container
        .set("/process/env", json!(env))
        .set("/process/cwd", json!("/tmp"));
    container.prints("/tmp\ntwo words||a b|*|2\n1\n1")
}

fn command_by_path(bench: &Bench) -> Result<()> {
    let container = bench.container().args(&["echo", "found"]);
    container.prints("found")?;
    let container = bench.container().args(&["echo", "found"]);
    let container = container.set("/process/env", json!(["PATH=/etc"]));
    container.is_refused("a command that is not in PATH")
}

fn user(bench: &Bench) -> Result<()> {
    let container = bench
        .container()
        .script("id -u; id -g; cat /proc/self/status");
    let container = container.set(
        "/process/user",
        json!({ "uid": 1234, "gid": 4321, "additionalGids": [5, 77] }),
    );
    let printed = container.printed()?;
    ensure!(printed.starts_with("1234\n4321\n"), "it is {printed:?}");
    let groups = field(&printed, "Groups:");
    let mut groups: Vec<_> = groups.split_whitespace().collect();
    groups.sort_unstable();
    // The primary group may stand in the list, too.
    groups.retain(|group| *group != "4321");
    ensure!(groups == ["5", "77"], "its groups are {groups:?}");
    Ok(())
}

/// A field of `/proc/PID/status`.
fn field<'t>(status: &'t str, name: &str) -> &'t str {
    let mut lines = status.lines();
    lines
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default()
        .trim()
}

fn umask(bench: &Bench) -> Result<()> {
    let container = bench.container().script("umask");
    let user = json!({ "uid": 0, "gid": 0, "umask": 0o27 });
    container.set("/process/user", user).prints("0027")
}

fn rlimits(bench: &Bench) -> Result<()> {
    let limit = |kind, soft: u64, hard: u64| json!({ "type": kind, "soft": soft, "hard": hard });
    let limits = [
        limit("RLIMIT_NOFILE", 100, 200),
        limit("RLIMIT_CORE", 0, 4096),
        limit("RLIMIT_CPU", 1000, 2000),
        limit("RLIMIT_FSIZE", 1 << 30, 1 << 31),
        limit("RLIMIT_STACK", 1 << 22, 1 << 23),
    ];
    let script = "for n in 'open files' 'core file size' 'cpu time' 'file size' 'stack size'; do
        grep -i \"^Max $n\" /proc/self/limits | sed \"s/^Max $n *//\" | awk '{ print $1, $2 }'; done";
    let container = bench.container().script(script);
    let container = container.set("/process/rlimits", limits.as_slice().into());
    container.prints("100 200\n0 4096\n1000 2000\n1073741824 2147483648\n4194304 8388608")
}

fn rlimits_fail(bench: &Bench) -> Result<()> {
    let with = |limits: Value| -> Result<Container> {
        Ok(bench.container().set("/process/rlimits", limits))
    };
    let limit = |kind| json!({ "type": kind, "soft": 10, "hard": 20 });
    with(json!([limit("RLIMIT_NONSENSE")]))?.is_refused("an unknown limit")?;
    let twice = json!([limit("RLIMIT_NOFILE"), limit("RLIMIT_NOFILE")]);
    with(twice)?.is_refused("a limit that is given twice")?;
    let reversed = json!([{ "type": "RLIMIT_CORE", "soft": 20, "hard": 10 }]);
    with(reversed)?.is_refused("a soft limit above the hard one")
}

fn oom_score_adj(bench: &Bench) -> Result<()> {
    let container = bench.container().script("cat /proc/self/oom_score_adj");
    container
        .set("/process/oomScoreAdj", json!(321))
        .prints("321")
}

/// Prints the sets of capabilities, most basic first.
const SETS: &str = "for n in Inh Prm Eff Bnd Amb; do
    sed -n \"s/^Cap$n:\\t0*\\(.\\)/\\1/p\" /proc/self/status; done";

/// `CAP_CHOWN` is bit 0, `CAP_KILL` bit 5, `CAP_NET_BIND_SERVICE` bit 10.
fn capabilities(bench: &Bench) -> Result<()> {
    let container = bench.container().script(SETS).set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "effective": ["CAP_CHOWN"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
        }),
    );
    // Root's `execve` makes effective what is permitted, and without new privileges
    // permits no more.
    container.prints("0\n21\n21\n421\n0")?;
    let container = bench.container().script(SETS);
    container
        .set("/process/capabilities", json!({}))
        .prints("0\n0\n0\n0\n0")
}

fn capabilities_ambient(bench: &Bench) -> Result<()> {
    let kill = ["CAP_KILL"];
    let container = bench.container().script(SETS).set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": kill, "permitted": kill,
            "inheritable": kill, "ambient": kill,
        }),
    );
    let container = container.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    container.prints("20\n20\n20\n21\n20")
}

/// What cannot be granted is for the log, and no failure.
fn capabilities_fail(bench: &Bench) -> Result<()> {
    let asked = ["CAP_KILL", "CAP_NONSENSE"];
    let container = bench.container().script(SETS).set(
        "/process/capabilities",
        json!({ "bounding": asked, "effective": asked, "permitted": asked }),
    );
    container.prints("0\n20\n20\n20\n0")
}

fn no_new_privileges(bench: &Bench) -> Result<()> {
    for (is_set, printed) in [(true, "1"), (false, "0")] {
        let container = bench
            .container()
            .script("sed -n 's/^NoNewPrivs:\\t//p' /proc/self/status");
        let container = container.set("/process/noNewPrivileges", json!(is_set));
        container.prints(printed)?;
    }
    Ok(())
}

fn io_priority(bench: &Bench) -> Result<()> {
    let container = bench.container().script("ionice -p 1");
    let priority = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    container
        .set("/process/ioPriority", priority)
        .prints("best-effort: prio 6")
}

fn scheduler(bench: &Bench) -> Result<()> {
    let container = bench
        .container()
        .script("awk '{ print $41, $19 }' /proc/1/stat");
    // SCHED_BATCH is policy 3.
    let scheduler = json!({ "policy": "SCHED_BATCH", "nice": 5 });
    container.set("/process/scheduler", scheduler).prints("3 5")
}

fn apparmor_profile(bench: &Bench) -> Result<()> {
    let script = "cat /proc/self/attr/apparmor/current";
    let container = bench.container().script(script);
    let container = container.set("/process/apparmorProfile", json!("no-such-profile"));
    container.is_refused("a profile that the kernel does not have")
}

fn selinux_label(bench: &Bench) -> Result<()> {
    let container = bench.container();
    let label = json!("system_u:system_r:no_such_t:s0");
    let container = container.set("/process/selinuxLabel", label);
    container.is_refused("a label that the kernel does not have")
}

fn personality(bench: &Bench) -> Result<()> {
    let container = bench.container().script("uname -m");
    let container = container.set("/linux/personality", json!({ "domain": "LINUX32" }));
    container.prints("i686")
}
