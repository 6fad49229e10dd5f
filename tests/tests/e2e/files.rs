//! Root file system and volumes through virtio-fs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use bulkhead_tests::{PROBE, World, wait_until, wait_until_within};
use rustix::fs::{XattrFlags, setxattr};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};

#[test]
fn metadata_goes_both_ways() {
    let world = World::new();
    let bundle = world.bundle().shell(
        "stat -c '%a %u %g' /from-host && mkdir /dir && echo x > /dir/f && chmod 4751 /dir/f && \
         ln -s f /dir/link && ln /dir/f /dir/hard && chown 12:34 /dir/f",
    );
    let chown = json!(["CAP_CHOWN"]);
    let capabilities = json!({ "bounding": chown, "effective": chown, "permitted": chown });
    let bundle = bundle.set("/process/capabilities", capabilities);
    fs::write(bundle.file("/from-host"), "").unwrap();
    fs::set_permissions(bundle.file("/from-host"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(bundle.run().expect_code(0).stdout, "640 0 0\n");
    let made = fs::metadata(bundle.file("/dir/f")).unwrap();
    assert_eq!(
        (made.mode() & 0o7777, made.uid(), made.gid()),
        (0o751, 12, 34),
        "chown drops setuid"
    );
    assert_eq!(made.nlink(), 2);
    assert_eq!(
        fs::read_link(bundle.file("/dir/link")).unwrap().to_str(),
        Some("f")
    );
}

/// As long as each other, so that it is the time of change that tells them apart.
#[test]
fn changes_made_on_the_host_are_seen_though_the_guest_has_a_cache() {
    let world = World::new();
    let bundle = world.bundle().shell(
        "cat /file; ls /directory; [ -e /directory/second ] || touch /ready
         until [ -e /directory/second ]; do sleep 0.1; done
         until grep -q new /file; do sleep 0.1; done
         until ls /directory | grep -q second; do sleep 0.1; done
         cat /file; ls /directory",
    );
    fs::write(bundle.file("/file"), "old\n").unwrap();
    fs::create_dir(bundle.file("/directory")).unwrap();
    fs::write(bundle.file("/directory/first"), "").unwrap();
    let container = bundle.start();
    wait_until("it has read", || bundle.file("/ready").exists());
    fs::write(bundle.file("/file"), "new\n").unwrap();
    fs::write(bundle.file("/directory/second"), "").unwrap();
    let outcome = container.wait().expect_code(0);
    assert_eq!(outcome.stdout, "old\nfirst\nnew\nfirst\nsecond\n");
}

/// An access control list that lets user 1001 read, and nobody else but the owner
/// (`acl(5)`; the form is that of `linux/posix_acl_xattr.h`).
fn readable_by_1001() -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries = [
        (0x01_u16, 6_u16, NOBODY), // the owner
        (0x02, 4, 1001),
        (0x04, 0, NOBODY), // the group
        (0x10, 4, NOBODY), // the mask
        (0x20, 0, NOBODY), // others
    ];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

#[test]
fn access_control_lists_hold() {
    let world = World::new();
    for (user, expected) in [(1001, "secret\n"), (1002, "")] {
        let script = "cat /file; cat /directory/file";
        let mut bundle = world.bundle().shell(script);
        bundle = bundle.set("/process/user", json!({ "uid": user, "gid": 0 }));
        let set = |name: &str, list: &str| {
            let (path, list) = (bundle.file(name), format!("system.posix_acl_{list}"));
            setxattr(path, list, &readable_by_1001(), XattrFlags::empty()).unwrap();
        };
        fs::write(bundle.file("/file"), "secret\n").unwrap();
        set("/file", "access");
        fs::create_dir(bundle.file("/directory")).unwrap();
        set("/directory", "default");
        fs::write(bundle.file("/directory/file"), "").unwrap();
        let outcome = bundle.run();
        assert_eq!(outcome.stdout, expected, "{outcome:#?}");
        let refusals = outcome.stderr.matches("Permission denied").count();
        assert_eq!(refusals, if expected.is_empty() { 2 } else { 0 });
    }
}

#[test]
fn modes_count_where_there_are_no_access_control_lists() {
    let world = World::new();
    let volume = world.path().join("volume");
    fs::create_dir(&volume).unwrap();
    // It has neither lists nor other extended attributes.
    let ramfs = Mounted::new("ramfs", &volume);
    fs::write(volume.join("file"), "for all\n").unwrap();
    let bundle = world
        .bundle()
        .shell("cat /volume/file && cp /bin/sh /volume/sh && /volume/sh -c 'echo run'")
        .set("/process/user", json!({ "uid": 1001, "gid": 1001 }))
        .push("/mounts", bind(&volume, "/volume", &["bind"]));
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    let outcome = bundle.run().expect_code(0);
    assert_eq!(outcome.stdout, "for all\nrun\n");
    drop(ramfs);
}

/// A file system, until this goes.
struct Mounted<'p>(&'p Path);

impl<'p> Mounted<'p> {
    fn new(kind: &str, at: &'p Path) -> Self {
        mount(kind, at, kind, MountFlags::empty(), None).unwrap();
        Self(at)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        unmount(self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn default_access_control_list_comes_before_the_umask() {
    let world = World::new();
    let script = "umask 077; echo secret >/directory/file";
    let bundle = world.bundle().shell(script);
    let directory = bundle.file("/directory");
    fs::create_dir(&directory).unwrap();
    let list = readable_by_1001();
    setxattr(
        &directory,
        "system.posix_acl_default",
        &list,
        XattrFlags::empty(),
    )
    .unwrap();
    let _ = bundle.run().expect_code(0);
    let mode = fs::metadata(directory.join("file")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn read_only_root_refuses_writes() {
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("touch /x 2>&1; test ! -e /x")
        .set("/root/readonly", json!(true));
    let outcome = bundle.run().expect_code(0);
    assert!(
        outcome.stdout.contains("Read-only file system"),
        "{outcome:#?}"
    );
    assert!(!bundle.file("/x").exists());
}

/// As `podman run --read-only` mounts them.
#[test]
fn tmpfs_may_be_a_copy_of_what_the_image_has() {
    let world = World::new();
    let options = ["rw", "rprivate", "nosuid", "nodev", "tmpcopyup"];
    let bundle = world
        .bundle()
        .shell(
            "cat /run/lock/file && readlink /run/link && stat -c %a /run /tmp && \
             echo new > /run/lock/file && echo new > /tmp/file && ! touch /x",
        )
        .set("/root/readonly", json!(true))
        .push(
            "/mounts",
            json!({ "destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": options }),
        )
        .push(
            "/mounts",
            json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": options }),
        );
    fs::create_dir_all(bundle.file("/run/lock")).unwrap();
    fs::write(bundle.file("/run/lock/file"), "the image's\n").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", bundle.file("/run/link")).unwrap();
    let mode = |path, mode| {
        fs::set_permissions(bundle.file(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("/run", 0o750);
    mode("/tmp", 0o1777);
    let outcome = bundle.run().expect_code(0);
    assert_eq!(outcome.stdout, "the image's\n/etc/passwd\n750\n1777\n");
    let kept = fs::read_to_string(bundle.file("/run/lock/file")).unwrap();
    assert_eq!(kept, "the image's\n");
}

#[test]
fn dev_may_be_read_only_and_has_its_devices() {
    let world = World::new();
    let mut bundle = world.bundle().shell(
        "head -c 3 /dev/zero | wc -c; test -d /dev/pts && ! touch /dev/x && touch /dev/shm/x",
    );
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let dev = mounts
        .iter_mut()
        .find(|mount| mount["destination"] == "/dev");
    let options = dev.unwrap()["options"].as_array_mut().unwrap();
    options.push(json!("ro"));
    assert_eq!(bundle.run().expect_code(0).stdout, "3\n");
}

#[test]
fn volumes_are_directories_and_files_with_their_options() {
    let world = World::new();
    let volume = world.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("data"), "in the volume\n").unwrap();
    let single = world.path().join("single");
    fs::write(&single, "one file\n").unwrap();
    let bundle = world
        .bundle()
        .shell("cat /volume/data /etc/single && echo new > /volume/new && ! echo no > /etc/single")
        .push("/mounts", bind(&volume, "/volume", &["rbind", "rw"]))
        .push("/mounts", bind(&single, "/etc/single", &["bind", "ro"]));
    let outcome = bundle.run().expect_code(0);
    assert_eq!(outcome.stdout, "in the volume\none file\n");
    assert_eq!(fs::read_to_string(volume.join("new")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(&single).unwrap(), "one file\n");
}

#[test]
fn volumes_may_belong_to_others_than_on_the_host() {
    let world = World::new();
    let volume = world.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("roots"), "").unwrap();
    let map = |host| json!([{ "containerID": 0, "hostID": host, "size": 1 }]);
    let mut mount = bind(&volume, "/volume", &["bind", "idmap"]);
    mount["uidMappings"] = map(1000);
    mount["gidMappings"] = map(2000);
    let bundle = world
        .bundle()
        .shell("stat -c %u:%g /volume/roots; touch /volume/new")
        .push("/mounts", mount)
        .set("/process/user", json!({ "uid": 1000, "gid": 2000 }));
    let outcome = bundle.run().expect_code(0);
    assert_eq!(outcome.stdout, "1000:2000\n");
    let new = fs::metadata(volume.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (0, 0));
    let bare = world
        .bundle()
        .push("/mounts", bind(&volume, "/volume", &["bind", "idmap"]));
    let _ = bare.run().expect_code(1).expect_message("uidMappings");
}

#[test]
fn volumes_have_their_policy_on_access_times() {
    let world = World::new();
    let volume = world.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let bundle = world
        .bundle()
        .shell("grep -o ' /volume.*' /proc/mounts | sort | grep -o '[a-z]*atime'")
        .push("/mounts", bind(&volume, "/volume1", &["rbind", "noatime"]))
        .push("/mounts", bind(&volume, "/volume2", &["rbind", "rnoatime"]))
        .push("/mounts", bind(&volume, "/volume3", &["bind", "relatime"]));
    let outcome = bundle.run().expect_code(0);
    assert_eq!(outcome.stdout, "noatime\nnoatime\nrelatime\n");
}

/// Nothing syncs: what was written by mapping goes out with the mapping.
#[test]
fn shared_files_behave_as_those_of_the_host() {
    let world = World::new();
    let (host, shared) = (world.path().join("host"), world.path().join("shared"));
    fs::create_dir(&host).unwrap();
    fs::create_dir(&shared).unwrap();
    let bundle = world
        .bundle()
        .command(&[PROBE, "files", "/shared"])
        .push("/mounts", bind(&shared, "/shared", &["bind"]));
    let all = json!([
        "CAP_CHOWN",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_MKNOD",
        "CAP_DAC_OVERRIDE"
    ]);
    let capabilities = json!({ "bounding": all, "effective": all, "permitted": all });
    let outcome = bundle
        .set("/process/capabilities", capabilities)
        .run()
        .expect_code(0);
    let expected = bulkhead_tests::file_operations::report(&host);
    let differences: Vec<_> = outcome
        .stdout
        .lines()
        .zip(expected.lines())
        .filter(|(ours, hosts)| ours != hosts)
        .collect();
    // docs/oci.md, "Shared files".
    let known = ["files without a name: Operation not supported (os error 95)"];
    let found: Vec<_> = differences.iter().map(|(ours, _)| *ours).collect();
    assert_eq!(found, known, "{differences:#?}");
    assert_eq!(outcome.stdout.lines().count(), expected.lines().count());
}

#[test]
fn files_written_by_mapping_are_with_the_host_at_the_end() {
    let world = World::new();
    let bundle = world.bundle().command(&[PROBE, "map", "/file"]);
    fs::write(bundle.file("/file"), "").unwrap();
    let _ = bundle.run().expect_code(0);
    assert_eq!(fs::read_to_string(bundle.file("/file")).unwrap(), "mapped");
}

#[test]
fn mounts_below_a_volume_are_shared_by_recursive_binds_only() {
    let world = World::new();
    let volume = world.path().join("volume");
    fs::create_dir_all(volume.join("sub")).unwrap();
    let bundle = world
        .bundle()
        .shell("ls /bind/sub /rbind/sub")
        .push("/mounts", bind(&volume, "/bind", &["bind"]))
        .push("/mounts", bind(&volume, "/rbind", &["rbind"]));
    let sub = volume.join("sub").display().to_string();
    let preparation = format!("mount -t tmpfs tmpfs '{sub}' && touch '{sub}/below'");
    let outcome = bundle.run_after(&preparation).expect_code(0);
    assert_eq!(outcome.stdout, "/bind/sub:\n\n/rbind/sub:\nbelow\n");
}

#[test]
fn shared_memory_of_an_engine_is_the_guests_own() {
    let world = World::new();
    let shm = world.path().join("shm");
    fs::create_dir(&shm).unwrap();
    let bundle = world
        .bundle()
        .shell("grep ' /dev/shm ' /proc/mounts; df -m /dev/shm | tail -1; touch /dev/shm/file");
    let destination = |mount: &Value| mount["destination"] == "/dev/shm";
    let mounts = bundle.config["mounts"].as_array().unwrap().iter();
    let others: Vec<_> = mounts.filter(|m| !destination(m)).cloned().collect();
    let bundle = bundle
        .set("/mounts", others.into())
        .push("/mounts", bind(&shm, "/dev/shm", &["bind"]));
    let path = shm.display().to_string();
    let preparation = format!("mount -t tmpfs -o size=10m tmpfs '{path}'");
    let outcome = bundle.run_after(&preparation).expect_code(0);
    assert!(
        outcome.stdout.starts_with("shm /dev/shm tmpfs"),
        "{outcome:?}"
    );
    assert!(outcome.stdout.contains(" 10 "), "{outcome:?}");
}

#[test]
fn volume_that_is_missing_is_named() {
    let world = World::new();
    let bundle = world.bundle().shell("true").push(
        "/mounts",
        bind(&world.path().join("no-such-volume"), "/volume", &["bind"]),
    );
    let _ = bundle.run().expect_code(1).expect_message("no-such-volume");
}

#[test]
fn guest_cannot_leave_the_root_by_a_symlink() {
    let world = World::new();
    let secret = world.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let bundle = world.bundle();
    std::os::unix::fs::symlink(&secret, bundle.file("/absolute")).unwrap();
    std::os::unix::fs::symlink("../../secret", bundle.file("/relative")).unwrap();
    let bundle = bundle.shell("! cat /absolute && ! cat /relative");
    assert_eq!(bundle.run().expect_code(0).stdout, "");
}

#[test]
fn mount_target_that_is_a_symlink_stays_inside_the_root() {
    let world = World::new();
    let bundle = world.bundle();
    std::os::unix::fs::symlink("/tmp", bundle.file("/escape")).unwrap();
    let bundle = bundle
        .shell("grep ' /tmp/inside tmpfs ' /proc/mounts || cat /proc/mounts >&2")
        .push(
            "/mounts",
            json!({ "destination": "/escape/inside", "type": "tmpfs", "source": "tmpfs" }),
        );
    let outcome = bundle.run().expect_code(0);
    assert!(
        outcome.stdout.starts_with("tmpfs /tmp/inside "),
        "{outcome:#?}"
    );
}

/// Each of 100,000 files is looked up while the server's descriptors are counted.
#[test]
fn walking_many_files_does_not_exhaust_descriptors() {
    const DIRECTORIES: usize = 100;
    const FILES: usize = 1000;
    let world = World::new();
    let bundle = world
        .bundle()
        .shell("find /tree -type f -size 0 | wc -l; touch /walked; read line");
    for directory in 0..DIRECTORIES {
        let directory = bundle.file(&format!("/tree/{directory}"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..FILES {
            fs::write(directory.join(file.to_string()), "").unwrap();
        }
    }
    let mut running = bundle.start();
    let mut most = 0;
    // Milliseconds a file, where each instruction of a guest's guest is emulated.
    let patience = Duration::from_mins(15);
    wait_until_within(patience, "the tree is walked", || {
        let open = world.processes("fsd").into_iter().map(descriptors).max();
        most = most.max(open.unwrap_or(0));
        bundle.file("/walked").exists()
    });
    drop(running.stdin());
    let outcome = running.wait();
    assert_eq!(outcome.stdout, "100000\n", "{outcome:#?}");
    assert!((1..1000).contains(&most), "{most} descriptors open at once");
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn bind(source: &Path, destination: &str, options: &[&str]) -> serde_json::Value {
    json!({ "type": "bind", "source": source, "destination": destination, "options": options })
}
