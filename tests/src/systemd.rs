//! A systemd of a test's own: the first process of its own namespaces, below a cgroup
//! that is delegated to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::outcome::Outcome;
use crate::wait_until;
use crate::world::World;

/// What it boots to: nothing that the machine has units for.
const TARGET: &str = "bulkhead-test.target";

/// Becomes systemd, which takes the cgroup `$1` for the hierarchy's root and boots to
/// the target `$2`.
const BOOT: &str = r#"
set -e
echo 0 >"$1/cgroup.procs"
exec unshare --cgroup sh -e -c '
    umount /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs /run
    mount -t tmpfs tmpfs /usr/lib/systemd/system-generators
    mkdir -p /run/systemd/system
    cd /run/systemd/system
    printf "[Unit]\nDefaultDependencies=no\n" >"$1"
    exec env -i PATH="$PATH" container=test /usr/lib/systemd/systemd \
        --unit="$1" --log-target=console --show-status=no
' sh "$2"
"#;

/// Enters systemd's own scope, so that a command's cgroup lies within what systemd
/// sees, and runs the command.
const ENTER: &str = r#"echo 0 >/sys/fs/cgroup/init.scope/cgroup.procs && exec "$@""#;

/// A systemd that runs as long as this lives.
#[derive(Debug)]
pub struct Systemd<'w> {
    world: &'w World,
    /// `unshare`, whose child it is.
    parent: Child,
    init: i32,
    cgroup: PathBuf,
}

impl<'w> Systemd<'w> {
    /// Boots it.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn boot(world: &'w World) -> Self {
        let name = world.path().file_name().expect("a name").display();
        let cgroup = Path::new("/sys/fs/cgroup").join(format!("bulkhead-test-{name}"));
        fs::create_dir(&cgroup).expect("cgroup v2 and root");
        let log = fs::File::create(world.path().join("systemd.log")).expect("writable");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", BOOT, "sh"])
            .arg(&cgroup)
            .arg(TARGET)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log);
        let parent = command.spawn().expect("unshare is installed");
        let mut systemd = Self {
            world,
            parent,
            init: 0,
            cgroup,
        };
        systemd.wait_until_up();
        systemd
    }

    fn wait_until_up(&mut self) {
        let mut child = Command::new("pgrep");
        child.args(["--parent", &self.parent.id().to_string()]);
        wait_until("systemd is up", || {
            if let Ok(Some(status)) = self.parent.try_wait() {
                let log = fs::read_to_string(self.world.path().join("systemd.log"));
                panic!("systemd: {status}: {}", log.unwrap_or_default());
            }
            let Ok(init) = Outcome::of(&mut child).stdout.trim().parse() else {
                return false;
            };
            self.init = init;
            self.run(Command::new("systemctl").args(["is-active", TARGET]))
                .code
                == 0
        });
    }

    /// The command as one of the host that this is the systemd of.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside
            .args(["--target", &self.init.to_string()])
            .args(["--mount", "--pid", "--cgroup"])
            .args(["sh", "-c", ENTER, "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        self.world.tagged(&mut inside);
        inside
    }

    /// Runs it to its end.
    pub fn run(&self, command: &Command) -> Outcome {
        Outcome::of(&mut self.command(command))
    }

    /// The cgroup of a unit, by its path in the hierarchy that systemd sees.
    pub fn cgroup(&self, path: &str) -> PathBuf {
        self.cgroup.join(path)
    }
}

impl Drop for Systemd<'_> {
    fn drop(&mut self) {
        // All processes of its namespace go with it, before its parent hears of it.
        match Pid::from_raw(self.init) {
            Some(init) => drop(kill_process(init, Signal::KILL)),
            None => drop(self.parent.kill()),
        }
        let _ = self.parent.wait();
        remove_cgroups(&self.cgroup);
    }
}

/// Removes a cgroup and those below it. One that is in use stays, for the world to
/// complain of.
fn remove_cgroups(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}
