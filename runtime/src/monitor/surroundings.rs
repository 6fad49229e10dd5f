//! What a container has on the host around its sandbox, made before that: a
//! cgroup, namespaces for hooks to find, and what the hooks do.

use std::path::Path;

use bulkhead_vmm::config::NetConfig;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use super::record::Record;
use super::{Job, MonitorError};
use crate::bundle::Bundle;
use crate::context::is_rootless;
use crate::hooks::{self, Moment};
use crate::host_cgroup::{self, HostCgroup};
use crate::logging;
use crate::network::{self, Taken};
use crate::resources::Resources;
use crate::signals::Signals;
use crate::sys;

/// The moments of a creation that hooks may wait for.
const CREATION: [Moment; 3] = [
    Moment::Prestart,
    Moment::CreateRuntime,
    Moment::CreateContainer,
];

/// Makes what the configuration asks for, and tells of the network, if there is
/// one. A container that asks for nothing of the kind is not delayed, and its record
/// waits until its guest boots.
pub(super) fn make(
    job: &Job,
    bundle: &Bundle,
    size: Resources,
    record: &mut Record<'_>,
    signals: &Signals,
) -> Result<Option<Taken>, MonitorError> {
    let driver = job.cgroup_driver;
    let cgroup = driver.and_then(|driver| HostCgroup::of(&bundle.spec, driver, &job.id));
    let is_awaited = |moment: &Moment| moment.is_awaited(bundle.hooks());
    let has_hooks = CREATION.iter().any(is_awaited);
    if let Some(cgroup) = cgroup {
        // From here on there is something to be removed by whoever comes after.
        record.write(bundle, |state| state.cgroup = Some(cgroup.clone()))?;
        enter(&cgroup, bundle, size, record)?;
    } else if has_hooks {
        record.write(bundle, |_| ())?;
    }
    let namespace = network_namespace(bundle);
    if let NetworkNamespace::At(path) = namespace {
        network::enter(path)?;
    }
    if has_hooks {
        separate(bundle, namespace == NetworkNamespace::New)?;
        let state = record.read()?;
        for moment in CREATION {
            hooks::run(moment, bundle.hooks(), &state.describe(), Some(signals))?;
        }
    }
    match namespace {
        NetworkNamespace::Guests => Ok(None),
        // Empty, and so the guest's will do.
        NetworkNamespace::New if !has_hooks => Ok(None),
        NetworkNamespace::New | NetworkNamespace::At(_) => Ok(network::take_over(queues(size))?),
    }
}

/// Each of the guest's processors has queues of its own, as far as they go.
fn queues(size: Resources) -> usize {
    (size.vcpus as usize).min(NetConfig::QUEUE_PAIRS_MAX)
}

/// Who is not root may have no cgroups to give; the guest's limits hold all the
/// same.
fn enter(
    cgroup: &HostCgroup,
    bundle: &Bundle,
    size: Resources,
    record: &mut Record<'_>,
) -> Result<(), MonitorError> {
    let linux = bundle.spec.linux().as_ref();
    let asked = linux.and_then(|linux| linux.resources().as_ref());
    let limits = host_cgroup::limits(asked, size);
    record.will_enter_cgroup();
    match cgroup.enter(&limits) {
        Err(error) if is_rootless() => {
            log::warn!("{}", logging::chain(&error));
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Gives this process, by whose pid hooks find the container's namespaces, those
/// that they may change: a network to configure, and a view of files in which
/// what they mount is the container's alone.
fn separate(bundle: &Bundle, new_network: bool) -> Result<(), MonitorError> {
    let failed = || MonitorError::io("make namespaces for the hooks");
    let mut namespaces = UnshareFlags::empty();
    namespaces.set(UnshareFlags::NEWNET, new_network);
    let mounts = Moment::CreateContainer.is_awaited(bundle.hooks());
    namespaces.set(UnshareFlags::NEWNS, mounts);
    if namespaces.is_empty() {
        return Ok(());
    }
    sys::unshare(namespaces).map_err(failed())?;
    if mounts {
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", slave).map_err(|errno| failed()(errno.into()))?;
    }
    Ok(())
}

/// The network namespace that a container is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NetworkNamespace<'a> {
    /// None of its own.
    Guests,
    /// A new one.
    New,
    /// One that is there.
    At(&'a Path),
}

fn network_namespace(bundle: &Bundle) -> NetworkNamespace<'_> {
    let linux = bundle.spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    let is_network = |namespace: &&LinuxNamespace| namespace.typ() == LinuxNamespaceType::Network;
    let network = namespaces.into_iter().flatten().find(is_network);
    match network.map(|network| network.path().as_deref()) {
        None => NetworkNamespace::Guests,
        Some(Some(path)) if !path.as_os_str().is_empty() => NetworkNamespace::At(path),
        Some(_) => NetworkNamespace::New,
    }
}
