//! `/dev/shm`, which engines make on the host: a tmpfs, to be bound into the
//! container. Memory cannot be shared between two kernels, and files that stand for
//! memory are better not served from afar: the guest gets a tmpfs of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci_spec::runtime::Mount;
use rustix::fs::statfs;

/// Where programs look for it (`shm_overview(7)`).
const PLACE: &str = "/dev/shm";

/// `statfs(2)`.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Makes such a mount one of the guest's own, of the same size. `source` is where
/// it would come from. A directory with something in it is what it seems to be.
pub(crate) fn keep_in_guest(mount: &mut Mount, source: &Path) -> bool {
    if mount.destination() != Path::new(PLACE) {
        return false;
    }
    let Some(size) = size_of_fresh_tmpfs(source) else {
        return false;
    };
    let options = ["nosuid", "nodev", "noexec", "mode=1777"].map(String::from);
    let size = format!("size={size}");
    mount
        .set_typ(Some("tmpfs".into()))
        .set_source(Some("shm".into()))
        .set_options(Some(options.into_iter().chain([size]).collect()));
    true
}

/// The size in bytes of an empty tmpfs that is mounted at `path`.
fn size_of_fresh_tmpfs(path: &Path) -> Option<u64> {
    let parent = path.parent()?.metadata().ok()?;
    let is_mount_point = path.metadata().ok()?.dev() != parent.dev();
    let is_empty = fs::read_dir(path).ok()?.next().is_none();
    let file_system = statfs(path).ok()?;
    let is_tmpfs = file_system.f_type == TMPFS_MAGIC;
    (is_mount_point && is_empty && is_tmpfs)
        .then(|| file_system.f_blocks * file_system.f_bsize.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mount(destination: &str) -> Mount {
        let mount = json!({ "destination": destination, "type": "bind", "source": "shm" });
        serde_json::from_value(mount).unwrap()
    }

    #[test]
    fn directories_of_files_stay_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let mut bind = mount(PLACE);
        assert!(!keep_in_guest(&mut bind, directory.path()));
        assert!(!keep_in_guest(&mut bind, Path::new("/no/such/directory")));
        assert_eq!(bind, mount(PLACE));
        // A mount point, and not empty.
        assert!(!keep_in_guest(&mut mount(PLACE), Path::new("/proc")));
    }

    #[test]
    fn other_places_are_not_looked_at() {
        assert!(!keep_in_guest(&mut mount("/shm"), Path::new("/dev/shm")));
    }
}
