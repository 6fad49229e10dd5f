//! Device nodes of a configuration: which of them mean something in a guest.
//!
//! A node is a number, and a number means what the kernel beneath has for it. The
//! guest has no devices of the host's.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Spec};

/// A configuration asks for a device of the host's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot give the container the host's device {} ({major}:{minor}): its guest has another kernel, which does not have it", path.display()
)]
pub(crate) struct HostDevice {
    path: PathBuf,
    major: i64,
    minor: i64,
}

/// Devices that each guest has (Linux's `Documentation/admin-guide/devices.txt`):
/// null, zero, full, random, urandom and kmsg, tty, console and ptmx,
/// pseudo-terminals, tun and fuse.
fn is_guests(device: &LinuxDevice) -> bool {
    match (device.typ(), device.major(), device.minor()) {
        (LinuxDeviceType::P, _, _) => true,
        (LinuxDeviceType::C | LinuxDeviceType::U, major, minor) => matches!(
            (major, minor),
            (1, 3 | 5 | 7 | 8 | 9 | 11) | (5, 0..=2) | (136..=143, _) | (10, 200 | 229)
        ),
        _ => false,
    }
}

/// Takes the host's devices out of a container that may use any device, and so has
/// been given all there are; who names one is told that it cannot be had.
pub(crate) fn keep_guests(spec: &mut Spec) -> Result<(), HostDevice> {
    let Some(linux) = spec.linux_mut() else {
        return Ok(());
    };
    let rules = linux.resources().as_ref();
    let rules = rules.and_then(|resources| resources.devices().as_ref());
    let is_privileged = rules.is_some_and(|rules| rules.last().is_some_and(allows_all));
    let Some(devices) = linux.devices_mut() else {
        return Ok(());
    };
    if let Some(device) = devices.iter().find(|device| !is_guests(device))
        && !is_privileged
    {
        return Err(HostDevice {
            path: device.path().clone(),
            major: device.major(),
            minor: device.minor(),
        });
    }
    devices.retain(is_guests);
    Ok(())
}

fn allows_all(rule: &LinuxDeviceCgroup) -> bool {
    let any_type = rule.typ().is_none_or(|typ| typ == LinuxDeviceType::A);
    let any = |number: Option<i64>| number.is_none_or(|number| number < 0);
    rule.allow() && any_type && any(rule.major()) && any(rule.minor())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(devices: &serde_json::Value, rules: &serde_json::Value) -> Spec {
        let spec = json!({
            "ociVersion": "1.2.0",
            "linux": { "devices": devices, "resources": { "devices": rules } },
        });
        serde_json::from_value(spec).unwrap()
    }

    fn device(path: &str, typ: &str, major: i64, minor: i64) -> serde_json::Value {
        json!({ "path": path, "type": typ, "major": major, "minor": minor })
    }

    #[test]
    fn devices_of_the_guest_stay() {
        let devices = json!([
            device("/dev/fuse", "c", 10, 229),
            device("/dev/net/tun", "c", 10, 200),
            device("/pipe", "p", 0, 0),
        ]);
        let mut spec = spec(&devices, &json!([]));
        let before = spec.clone();
        keep_guests(&mut spec).unwrap();
        assert_eq!(spec, before);
    }

    #[test]
    fn device_of_the_host_is_refused_by_name() {
        let disk = json!([device("/dev/sda", "b", 8, 0)]);
        let rules =
            json!([{ "allow": false }, { "allow": true, "type": "b", "major": 8, "minor": 0 }]);
        let error = keep_guests(&mut spec(&disk, &rules)).unwrap_err();
        assert!(error.to_string().contains("/dev/sda (8:0)"), "{error}");
    }

    #[test]
    fn who_may_use_all_has_those_of_the_guest() {
        let devices = json!([
            device("/dev/sda", "b", 8, 0),
            device("/dev/fuse", "c", 10, 229)
        ]);
        let mut spec = spec(&devices, &json!([{ "allow": true, "access": "rwm" }]));
        keep_guests(&mut spec).unwrap();
        let left = spec.linux().as_ref().unwrap().devices().as_ref().unwrap();
        assert_eq!(left.len(), 1);
    }
}
