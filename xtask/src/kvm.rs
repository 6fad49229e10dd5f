//! This machine's own KVM.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

/// Why guests cannot run right here; nothing if they can. `bulkhead check` looks
/// closer; this is enough to choose a machine.
pub(crate) fn obstacle() -> Option<&'static str> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Some(match error.kind() {
            ErrorKind::NotFound => "there is no /dev/kvm",
            ErrorKind::PermissionDenied => "/dev/kvm may not be opened",
            _ => "/dev/kvm cannot be opened",
        });
    }
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    let virtualises = |line: &str| line.split(' ').any(|flag| flag == "vmx" || flag == "svm");
    if !flags.any(virtualises) {
        return Some("its KVM has neither VT-x nor SVM beneath it");
    }
    let is_root = fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0);
    (!is_root).then_some("containers take root here")
}
