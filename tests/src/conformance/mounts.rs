//! Mounts (config.md, "Mounts"; config-linux.md, "Default Filesystems").

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Result, ensure};
use serde_json::json;

use super::Check;
use super::bench::Bench;

pub(super) const CASES: &[(&str, Check)] = &[
    ("default_filesystems", default_filesystems),
    ("mounts", tmpfs_with_options),
    ("mounts_order", order),
    ("mounts_bind", bind),
    ("mounts_bind_file", bind_file),
    ("mounts_recursive", recursive),
    ("mounts_recursive_readonly", recursive_readonly),
    ("mounts_readonly_not_recursive", readonly_not_recursive),
    ("mounts_propagation", propagation),
    ("mounts_destination_in_root", destination_in_root),
    ("mounts_tmpcopyup", tmpcopyup),
    ("mounts_cgroup", cgroup),
    ("mounts_id_mapped", id_mapped),
    ("mounts_invalid", invalid),
];

/// Prints the type of what is mounted last on each of the given directories.
const TYPES: &str = "type() { awk -v on=$1 '$2 == on { t = $3 } END { print t }' /proc/mounts; }
for directory in $*; do type $directory; done";

/// Prints a mount's options.
fn options_of(directory: &str) -> String {
    format!("awk '$2 == \"{directory}\" {{ print $4 }}' /proc/mounts")
}

fn default_filesystems(bench: &Bench) -> Result<()> {
    let script = format!(
        "set /proc /sys /dev/pts /dev/shm /dev/mqueue; {TYPES}; : >/dev/shm/file && echo writable"
    );
    let container = bench.container().script(&script);
    container.prints("proc\nsysfs\ndevpts\ntmpfs\nmqueue\nwritable")
}

fn tmpfs_with_options(bench: &Bench) -> Result<()> {
    let asked = ["nosuid", "nodev", "noexec", "noatime", "ro"];
    let data = ["mode=1750", "size=64k"];
    let script = format!("{}; stat -c %a /new/place", options_of("/new/place"));
    let container = bench.container().script(&script).mount(json!({
        "destination": "/new/place", "type": "tmpfs", "source": "tmpfs",
        "options": ([&asked[..], &data[..]].concat()),
    }));
    let printed = container.printed()?;
    let (options, mode) = printed.split_once('\n').unwrap_or_default();
    let has = |option: &&str| options.split(',').any(|o| o == *option);
    let missing: Vec<_> = asked
        .iter()
        .chain(&["size=64k"])
        .filter(|o| !has(o))
        .collect();
    ensure!(missing.is_empty(), "{missing:?} missing in {options:?}");
    ensure!(mode.trim() == "1750", "its mode is {mode:?}");
    Ok(())
}

fn order(bench: &Bench) -> Result<()> {
    let source = bench.path().join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "bound")?;
    let tmpfs = |on| json!({ "destination": on, "type": "tmpfs", "source": "tmpfs" });
    let container = bench
        .container()
        .script("cat /over/below/file; ls /under")
        .mount(tmpfs("/over"))
        .bind(&source, "/over/below", &["bind"])
        .bind(&source, "/under", &["bind"])
        .mount(tmpfs("/under"));
    container.prints("bound")
}

fn bind(bench: &Bench) -> Result<()> {
    for name in ["written", "kept"] {
        let directory = bench.path().join(name);
        fs::create_dir(&directory)?;
        fs::write(directory.join("file"), "before")?;
    }
    let script = "cat /rw/file /ro/file; echo after >/rw/file
        echo after >/ro/file || echo refused; rm /ro/file || echo refused";
    let script = format!("exec 2>/dev/null; {script}");
    let container = bench
        .container()
        .script(&script)
        .bind(&bench.path().join("written"), "/rw", &["rbind", "rw"])
        .bind(&bench.path().join("kept"), "/ro", &["bind", "ro"]);
    container.prints("beforebeforerefused\nrefused")?;
    let read = |name: &str| fs::read_to_string(bench.path().join(name).join("file"));
    ensure!(read("written")? == "after\n", "the host does not see it");
    ensure!(read("kept")? == "before", "what is read-only was changed");
    Ok(())
}

fn bind_file(bench: &Bench) -> Result<()> {
    let file = bench.path().join("file");
    fs::write(&file, "before\n")?;
    let container = bench
        .container()
        .script("cat /etc/new/name; echo after >/etc/new/name");
    let container = container.bind(&file, "/etc/new/name", &["bind"]);
    container.prints("before")?;
    ensure!(
        fs::read_to_string(&file)? == "after\n",
        "the host does not see it"
    );
    Ok(())
}

fn recursive(bench: &Bench) -> Result<()> {
    let source = bench.path().join("source");
    bench.mount_tmpfs(&source.join("below"))?;
    fs::write(source.join("below/file"), "below")?;
    let script = "cat /all/below/file; ls /one/below; echo; echo new >/all/below/new";
    let container = bench
        .container()
        .script(script)
        .bind(&source, "/all", &["rbind"])
        .bind(&source, "/one", &["bind"]);
    container.prints("below")?;
    ensure!(
        source.join("below/new").exists(),
        "the host does not see what was written"
    );
    Ok(())
}

/// `rro`: read-only with all that is mounted below.
fn recursive_readonly(bench: &Bench) -> Result<()> {
    let source = bench.path().join("source");
    bench.mount_tmpfs(&source.join("below"))?;
    let script = "exec 2>/dev/null
        touch /all/file || echo refused; touch /all/below/file || echo refused
        ls -d /all/below";
    let container = bench.container().script(script);
    container
        .bind(&source, "/all", &["rbind", "rro"])
        .prints("refused\nrefused\n/all/below")
}

/// `ro`: what is mounted below is left as it is.
fn readonly_not_recursive(bench: &Bench) -> Result<()> {
    let source = bench.path().join("source");
    bench.mount_tmpfs(&source.join("below"))?;
    let script = "exec 2>/dev/null
        touch /one/file || echo refused; touch /one/below/file && echo writable";
    let container = bench.container().script(script);
    container
        .bind(&source, "/one", &["rbind", "ro"])
        .prints("refused\nwritable")
}

fn propagation(bench: &Bench) -> Result<()> {
    let source = bench.path().join("source");
    fs::create_dir(&source)?;
    let script = "awk '$5 ~ \"^/to/\" { print $5, $7 }' /proc/self/mountinfo | sed 's/:.*//'";
    let container = bench
        .container()
        .script(script)
        .bind(&source, "/to/shared", &["rbind", "rshared"])
        .bind(&source, "/to/private", &["rbind", "rprivate"])
        .bind(&source, "/to/alone", &["bind", "unbindable"]);
    container.prints("/to/shared shared\n/to/private -\n/to/alone unbindable")
}

/// Links in the root file system lead nowhere else.
fn destination_in_root(bench: &Bench) -> Result<()> {
    let outside = bench.path().join("outside");
    fs::create_dir(&outside)?;
    let container = bench
        .container()
        .script("awk '$2 ~ /inner/ { print $2 }' /proc/mounts");
    symlink("/target", container.file("/absolute"))?;
    symlink("../../../../target", container.file("/relative"))?;
    symlink(&outside, container.file("/outside"))?;
    let tmpfs = |on| json!({ "destination": on, "type": "tmpfs", "source": "tmpfs" });
    let container = container
        .mount(tmpfs("/absolute/inner1"))
        .mount(tmpfs("/relative/inner2"))
        .mount(tmpfs("/outside/inner3"));
    let third = outside.join("inner3").display().to_string();
    container.prints(&format!("/target/inner1\n/target/inner2\n{third}"))?;
    ensure!(
        fs::read_dir(&outside)?.next().is_none(),
        "a directory was made outside"
    );
    Ok(())
}

fn tmpcopyup(bench: &Bench) -> Result<()> {
    let container = bench
        .container()
        .script("cat /data/deep/file; echo new >/data/deep/file");
    fs::create_dir_all(container.file("/data/deep"))?;
    fs::write(container.file("/data/deep/file"), "old")?;
    let container = container.mount(json!({
        "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"],
    }));
    container.prints("old")?;
    ensure!(
        fs::read_to_string(container.file("/data/deep/file"))? == "old",
        "the root file system was changed"
    );
    Ok(())
}

fn cgroup(bench: &Bench) -> Result<()> {
    let script = format!(
        "cat /proc/self/cgroup; {}; \
         grep -qx $$ /sys/fs/cgroup/cgroup.procs && echo here
         echo 5 2>/dev/null >/sys/fs/cgroup/pids.max || echo refused",
        options_of("/sys/fs/cgroup").replace("$4", "$3")
    );
    let container = bench
        .container()
        .script(&format!("exec 2>/dev/null; {script}"));
    container.prints("0::/\ncgroup2\nhere\nrefused")
}

/// `uidMappings` and `gidMappings` of a mount.
fn id_mapped(bench: &Bench) -> Result<()> {
    let source = bench.path().join("source");
    fs::create_dir(&source)?;
    let mapping = json!([{ "containerID": 0, "hostID": 1000, "size": 1000 }]);
    let container = bench
        .container()
        .script("stat -c '%u %g' /mapped")
        .mount(json!({
            "destination": "/mapped", "type": "bind", "source": source, "options": ["bind"],
            "uidMappings": mapping, "gidMappings": mapping,
        }));
    container.prints("1000 1000")
}

fn invalid(bench: &Bench) -> Result<()> {
    let source = bench.path().join("nowhere");
    let missing = bench.container().bind(&source, "/data", &["bind"]);
    missing.is_refused("a source that is not there")?;
    let unknown = bench.container().mount(json!({
        "destination": "/data", "type": "nosuchfs", "source": "nosuchfs",
    }));
    unknown.is_refused("an unknown file system")?;
    let data = bench.container().mount(json!({
        "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["nosuch=1"],
    }));
    data.is_refused("an unknown option")
}
