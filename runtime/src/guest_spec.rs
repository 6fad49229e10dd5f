//! A bundle's configuration as the guest sees it.
//!
//! Paths of the host become paths of the file system that the file server
//! shares; what concerns only the host is taken out.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bulkhead_fsd::Export;
use oci_spec::runtime::{Hooks, Linux, LinuxNamespace, LinuxNamespaceType, Mount, Root, Spec};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::bundle::Bundle;
use crate::id::ContainerId;
use crate::id_map::{self, Mappings, NoMappings};
use crate::shared_memory;

/// Where the agent mounts what the file server shares.
const SHARED: &str = "/run/shared";

/// Trees of the host that a guest has of its own: sharing the host's would
/// show, or let it change, another kernel.
const KERNEL_TREES: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A configuration for the guest, and what must be shared with it.
#[derive(Debug)]
pub(crate) struct GuestSpec {
    /// The configuration for the agent.
    pub(crate) spec: Spec,
    /// What the file server shows the guest.
    pub(crate) exports: Vec<Export>,
}

/// Why a mount's source cannot be shared with a guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// There is no source.
    #[error("the bind mount on {} has no source", destination.display())]
    NoSource {
        /// Where it was to be mounted.
        destination: PathBuf,
    },
    /// The source is not in reach.
    #[error("cannot share {}, to be mounted on {}, with the guest", source_path.display(), destination.display())]
    Source {
        /// The path on the host.
        source_path: PathBuf,
        /// Where it was to be mounted.
        destination: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// The source is neither a directory nor a regular file.
    #[error("cannot share {}, to be mounted on {}, with the guest: a socket, pipe or device of the host does not work there", source_path.display(), destination.display())]
    Special {
        /// The path on the host.
        source_path: PathBuf,
        /// Where it was to be mounted.
        destination: PathBuf,
    },
    /// The owners of its files are to be others, but which ones is not said.
    #[error(transparent)]
    IdMap(#[from] NoMappings),
}

impl GuestSpec {
    /// Rewrites the bundle's configuration for the guest.
    pub(crate) fn new(id: &ContainerId, bundle: &Bundle) -> Result<Self, MountError> {
        let mut spec = bundle.spec.clone();
        let shared = PathBuf::from(id.as_str());
        let mut exports = Vec::new();

        let name = shared.join("rootfs");
        let is_read_only = spec.root().as_ref().and_then(Root::readonly) == Some(true);
        let read_only = is_read_only && is_complete(&bundle.rootfs, &spec);
        if let Some(root) = spec.root_mut() {
            root.set_path(Path::new(SHARED).join(&name));
            exports.push(Export {
                name,
                source: bundle.rootfs.clone(),
                recursive: true,
                read_only,
                id_map: None,
            });
        }
        let user_namespace = id_map::of_user_namespace(&spec);
        for (index, mount) in spec.mounts_mut().iter_mut().flatten().enumerate() {
            if is_bind(mount) && !is_kernel_tree(mount) {
                let name = shared.join(index.to_string());
                exports.extend(share(mount, name, &bundle.path, &user_namespace)?);
            }
        }
        forget_host(&mut spec);
        Ok(Self { spec, exports })
    }
}

/// Whether the root file system has everything that the agent would have to
/// make in it: mount points, and the working directory. If so, a root that is
/// read-only for the container can be so for the whole guest.
fn is_complete(rootfs: &Path, spec: &Spec) -> bool {
    let Ok(root) = File::open(rootfs) else {
        return false;
    };
    let exists = |path: &Path| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).is_ok()
    };
    let mounts: Vec<_> = spec
        .mounts()
        .iter()
        .flatten()
        .map(Mount::destination)
        .collect();
    let is_within = |path: &Path| mounts.iter().any(|m| path != *m && path.starts_with(m));
    let cwd = spec.process().as_ref().map(oci_spec::runtime::Process::cwd);
    mounts.iter().copied().chain(cwd).all(|path| is_within(path) || exists(path))
        // Else the devices every container has would be made in the root.
        && mounts.iter().any(|mount| *mount == Path::new("/dev"))
}

fn is_bind(mount: &Mount) -> bool {
    let is_bind = |option: &String| option == "bind" || option == "rbind";
    mount.typ().as_deref() == Some("bind")
        || mount
            .options()
            .as_ref()
            .is_some_and(|options| options.iter().any(is_bind))
}

fn is_kernel_tree(mount: &Mount) -> bool {
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    // Engines keep a pod's shared memory elsewhere; a `/dev/shm` named here
    // is meant to be the host's, which cannot be shared between two kernels.
    KERNEL_TREES.iter().any(|tree| source.starts_with(tree))
}

/// Makes the mount one of the shared file system's, and tells what to share, if
/// anything.
fn share(
    mount: &mut Mount,
    name: PathBuf,
    bundle: &Path,
    user_namespace: &Mappings,
) -> Result<Option<Export>, MountError> {
    let destination = mount.destination().clone();
    let Some(source) = mount.source() else {
        return Err(MountError::NoSource { destination });
    };
    let path = bundle.join(source);
    if shared_memory::keep_in_guest(mount, &path) {
        return Ok(None);
    }
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(source) => {
            return Err(MountError::Source {
                source_path: path,
                destination,
                source,
            });
        }
    };
    if !metadata.is_dir() && !metadata.is_file() {
        return Err(MountError::Special {
            source_path: path,
            destination,
        });
    }
    let id_map = id_map::take(mount, user_namespace)?;
    let has = |wanted: &[&str]| {
        mount
            .options()
            .iter()
            .flatten()
            .any(|option| wanted.contains(&option.as_str()))
    };
    let (recursive, read_only) = (has(&["rbind"]), has(&["ro", "rro"]));
    mount.set_source(Some(Path::new(SHARED).join(&name)));
    Ok(Some(Export {
        name,
        source: path,
        recursive,
        read_only,
        id_map,
    }))
}

/// Takes out what has no meaning in the guest.
fn forget_host(spec: &mut Spec) {
    let start = spec
        .hooks()
        .as_ref()
        .and_then(|hooks| hooks.start_container().clone());
    spec.set_hooks(start.map(|start| {
        let mut hooks = Hooks::default();
        hooks.set_start_container(Some(start));
        hooks
    }));
    if let Some(process) = spec.process_mut() {
        // The guest's kernel has neither of these security modules.
        process.set_apparmor_profile(None).set_selinux_label(None);
    }
    if let Some(linux) = spec.linux_mut() {
        forget_host_linux(linux);
    }
}

fn forget_host_linux(linux: &mut Linux) {
    // Compiled on the host, and sent beside the configuration.
    linux.set_seccomp(None);
    // A place in the host's hierarchy; the guest has one of its own.
    linux.set_cgroups_path(None);
    if linux
        .mount_label()
        .as_ref()
        .is_some_and(|label| !label.is_empty())
    {
        log::warn!("linux.mountLabel has no effect: the guest's kernel has no SELinux");
    }
    linux.set_mount_label(None);
    linux.set_net_devices(None::<HashMap<_, _>>);
    if let Some(namespaces) = linux.namespaces_mut() {
        // One that its engine has prepared is the guest's own, for all in it.
        let is_prepared = |namespace: &LinuxNamespace| {
            namespace.typ() == LinuxNamespaceType::Network && namespace.path().is_some()
        };
        namespaces.retain(|namespace| !is_prepared(namespace));
        for namespace in namespaces.iter_mut() {
            // A namespace of the host's kernel cannot be joined; the guest
            // makes one of the same kind.
            namespace.set_path(None);
        }
        share_network(namespaces);
    }
}

/// The guest's network is the sandbox's, and so the container's: one more would
/// part it from nobody, at 1.5 % of a start. But a container's user namespace
/// must own its network to configure it.
fn share_network(namespaces: &mut Vec<LinuxNamespace>) {
    let is_user = |namespace: &LinuxNamespace| namespace.typ() == LinuxNamespaceType::User;
    if !namespaces.iter().any(is_user) {
        namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bundle::tests::{bundle_with, minimal};

    fn rewrite(config: &serde_json::Value) -> (PathBuf, Result<GuestSpec, MountError>) {
        let directory = bundle_with(config);
        fs::write(directory.path().join("file"), "").unwrap();
        fs::create_dir(directory.path().join("dir")).unwrap();
        let bundle = Bundle::load(directory.path()).unwrap();
        let id = ContainerId::parse("box").unwrap();
        (bundle.path.clone(), GuestSpec::new(&id, &bundle))
    }

    #[test]
    fn root_becomes_a_path_of_the_guest() {
        let (bundle, guest) = rewrite(&minimal());
        let guest = guest.unwrap();
        let root = guest.spec.root().as_ref().unwrap();
        assert_eq!(root.path(), Path::new("/run/shared/box/rootfs"));
        let export = Export {
            name: "box/rootfs".into(),
            source: bundle.join("rootfs"),
            recursive: true,
            read_only: false,
            id_map: None,
        };
        assert_eq!(guest.exports, [export]);
    }

    #[test]
    fn root_is_shared_read_only_if_nothing_is_missing_in_it() {
        let is_read_only = |config: &serde_json::Value| {
            let directory = bundle_with(config);
            fs::create_dir_all(directory.path().join("rootfs/dev")).unwrap();
            std::os::unix::fs::symlink("/dev", directory.path().join("rootfs/link")).unwrap();
            let bundle = Bundle::load(directory.path()).unwrap();
            let guest = GuestSpec::new(&ContainerId::parse("box").unwrap(), &bundle).unwrap();
            guest.exports[0].read_only
        };
        let tmpfs = |destination: &str| json!({ "destination": destination, "type": "tmpfs" });
        let mut config = minimal();
        config["root"]["readonly"] = json!(true);
        assert!(!is_read_only(&config), "devices are made in the root");
        config["mounts"] = json!([tmpfs("/dev"), tmpfs("/dev/shm"), tmpfs("/link")]);
        assert!(is_read_only(&config));
        config["mounts"] = json!([tmpfs("/dev"), tmpfs("/data")]);
        assert!(!is_read_only(&config), "a mount point is missing");
        config["mounts"] = json!([tmpfs("/dev")]);
        config["process"]["cwd"] = json!("/srv");
        assert!(!is_read_only(&config), "the working directory is missing");
        config["process"]["cwd"] = json!("/dev/shm");
        assert!(is_read_only(&config));
        config["root"]["readonly"] = json!(false);
        assert!(!is_read_only(&config), "nobody asked");
    }

    #[test]
    fn bind_mounts_are_shared_by_their_place_in_the_list() {
        let mut config = minimal();
        config["mounts"] = json!([
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/a", "type": "bind", "source": "dir", "options": ["ro"] },
            { "destination": "/b", "type": "none", "source": "file", "options": ["rbind", "rw"] },
        ]);
        let (bundle, guest) = rewrite(&config);
        let guest = guest.unwrap();
        let mounts = guest.spec.mounts().as_ref().unwrap();
        assert_eq!(mounts[0].source().as_deref(), Some(Path::new("proc")));
        assert_eq!(
            mounts[1].source().as_deref(),
            Some(Path::new("/run/shared/box/1"))
        );
        assert_eq!(
            mounts[2].source().as_deref(),
            Some(Path::new("/run/shared/box/2"))
        );
        let expected = [
            Export {
                name: "box/1".into(),
                source: bundle.join("dir"),
                recursive: false,
                read_only: true,
                id_map: None,
            },
            Export {
                name: "box/2".into(),
                source: bundle.join("file"),
                recursive: true,
                read_only: false,
                id_map: None,
            },
        ];
        assert_eq!(guest.exports[1..], expected);
    }

    #[test]
    fn trees_of_the_kernel_are_the_guests_own() {
        let mut config = minimal();
        config["mounts"] =
            json!([{ "destination": "/sys", "source": "/sys", "options": ["rbind"] }]);
        let guest = rewrite(&config).1.unwrap();
        assert_eq!(guest.exports.len(), 1);
        let mount = &guest.spec.mounts().as_ref().unwrap()[0];
        assert_eq!(mount.source().as_deref(), Some(Path::new("/sys")));
    }

    #[test]
    fn sources_that_cannot_be_shared_are_named() {
        let mut config = minimal();
        config["mounts"] =
            json!([{ "destination": "/a", "type": "bind", "source": "no-such-source" }]);
        let error = rewrite(&config).1.unwrap_err();
        assert!(matches!(error, MountError::Source { .. }));
        assert!(error.to_string().contains("no-such-source"));

        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        config["mounts"] = json!([{ "destination": "/a", "type": "bind", "source": socket }]);
        assert!(matches!(
            rewrite(&config).1,
            Err(MountError::Special { .. })
        ));

        config["mounts"] = json!([{ "destination": "/a", "type": "bind" }]);
        assert!(matches!(
            rewrite(&config).1,
            Err(MountError::NoSource { .. })
        ));
    }

    #[test]
    fn what_is_the_hosts_is_taken_out() {
        let mut config = minimal();
        config["process"]["apparmorProfile"] = json!("box");
        config["linux"] = json!({
            "cgroupsPath": "/engine/box",
            "seccomp": { "defaultAction": "SCMP_ACT_ALLOW" },
            "namespaces": [{ "type": "network", "path": "/run/netns/box" }, { "type": "pid" }],
            "sysctl": { "net.ipv4.ip_forward": "1" },
        });
        let guest = rewrite(&config).1.unwrap();
        let json = serde_json::to_value(&guest.spec).unwrap();
        assert!(json["process"].get("apparmorProfile").is_none());
        let expected = json!({
            "namespaces": [{ "type": "pid" }],
            "sysctl": { "net.ipv4.ip_forward": "1" },
        });
        assert_eq!(json["linux"], expected);
    }

    #[test]
    fn network_belongs_to_a_user_namespace_of_the_container() {
        let mut config = minimal();
        let namespaces = json!([{ "type": "network" }, { "type": "user" }]);
        config["linux"] = json!({ "namespaces": namespaces });
        let guest = rewrite(&config).1.unwrap();
        let json = serde_json::to_value(&guest.spec).unwrap();
        assert_eq!(json["linux"]["namespaces"], namespaces);
    }
}
