//! Initramfs images for guests that misbehave.

use std::fs;
use std::path::Path;

/// Writes an initramfs whose `/init` is the test's guest program, to behave as
/// `behaviour` says (see `src/bin/probe.rs`).
///
/// # Panics
/// If `path` cannot be written.
pub fn write_misbehaving_init(path: &Path, behaviour: &str) {
    let program = path.with_extension("init");
    crate::bundle::install_probe(&program);
    let init = fs::read(&program).expect("just made");
    let mut archive = Vec::new();
    // A regular file, executable by all; a directory; a character device 5:1.
    append(&mut archive, "dev", 0o040_755, (0, 0), &[]);
    append(&mut archive, "dev/console", 0o020_600, (5, 1), &[]);
    append(
        &mut archive,
        "behaviour",
        0o100_644,
        (0, 0),
        behaviour.as_bytes(),
    );
    append(&mut archive, "init", 0o100_755, (0, 0), &init);
    append(&mut archive, "TRAILER!!!", 0, (0, 0), &[]);
    fs::write(path, archive).expect("a writable directory");
}

/// Appends one member in the 'newc' format (Linux,
/// `Documentation/driver-api/early-userspace/buffer-format.rst`).
fn append(archive: &mut Vec<u8>, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
    let size = u32::try_from(data.len()).expect("small");
    let name_len = u32::try_from(name.len() + 1).expect("short");
    // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
    // rdevmajor, rdevminor, namesize, check
    let fields = [
        0, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_len, 0,
    ];
    archive.extend(b"070701");
    for field in fields {
        archive.extend(format!("{field:08x}").bytes());
    }
    archive.extend(name.bytes());
    archive.push(0);
    pad(archive);
    archive.extend(data);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}
