//! How big a container's microVM is.

use oci_spec::runtime::Spec;

/// Guest memory of a container that does not say what it needs. The guest
/// takes from the host what it touches, not what it was given.
const DEFAULT_MEMORY_MIB: u64 = 256;

/// What the guest's kernel and agent need beside the container's own limit.
const OVERHEAD_MIB: u64 = 64;

/// Least memory that a guest boots in.
const MIN_MEMORY_MIB: u64 = 64;

/// Guest memory in MiB, instead of what follows from the memory limit.
pub(crate) const MEMORY_ANNOTATION: &str = "dev.bulkhead.memory-mib";

/// Number of vCPUs, instead of what follows from the CPU quota.
pub(crate) const VCPUS_ANNOTATION: &str = "dev.bulkhead.vcpus";

/// Size of a microVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resources {
    /// Memory in MiB.
    pub(crate) memory_mib: u64,
    /// Number of vCPUs.
    pub(crate) vcpus: u32,
}

/// The host, as far as it bounds a guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host {
    /// Its memory in MiB.
    pub(crate) memory_mib: u64,
    /// Tells how many CPUs it has; that takes a while, and is seldom asked.
    pub(crate) cpus: fn() -> u32,
}

/// Why a microVM of the size asked for cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResourceError {
    /// An annotation is not a number.
    #[error("annotation {annotation} is {value:?}; it must be a number of at least {min}")]
    NotANumber {
        /// The annotation.
        annotation: &'static str,
        /// Its value.
        value: String,
        /// The least number that makes sense.
        min: u64,
    },
    /// More memory than there is.
    #[error(
        "the microVM's memory of {memory_mib} MiB exceeds the host's of {host_mib} MiB; lower the container's memory limit or annotation {MEMORY_ANNOTATION}"
    )]
    TooMuchMemory {
        /// The memory asked for.
        memory_mib: u64,
        /// The memory there is.
        host_mib: u64,
    },
}

impl Host {
    /// This host.
    pub(crate) fn current() -> Self {
        let info = rustix::system::sysinfo();
        Self {
            memory_mib: (info.totalram * u64::from(info.mem_unit)) >> 20,
            cpus: || std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        }
    }
}

impl Resources {
    /// What the configuration asks for: its annotations, else what follows
    /// from its limits, else the defaults.
    pub(crate) fn of(spec: &Spec, host: Host) -> Result<Self, ResourceError> {
        let memory_mib = match annotation(spec, MEMORY_ANNOTATION, MIN_MEMORY_MIB)? {
            Some(mib) => mib,
            None => memory_for_limit(spec),
        };
        if memory_mib > host.memory_mib {
            return Err(ResourceError::TooMuchMemory {
                memory_mib,
                host_mib: host.memory_mib,
            });
        }
        let vcpus = match annotation(spec, VCPUS_ANNOTATION, 1)? {
            Some(count) => u32::try_from(count).unwrap_or(u32::MAX),
            None => quota_in_cpus(spec).map_or(1, |cpus| cpus.min((host.cpus)())),
        };
        Ok(Self { memory_mib, vcpus })
    }
}

fn annotation(
    spec: &Spec,
    annotation: &'static str,
    min: u64,
) -> Result<Option<u64>, ResourceError> {
    let Some(value) = spec
        .annotations()
        .as_ref()
        .and_then(|all| all.get(annotation))
    else {
        return Ok(None);
    };
    match value.trim().parse() {
        Ok(number) if number >= min => Ok(Some(number)),
        _ => Err(ResourceError::NotANumber {
            annotation,
            value: value.clone(),
            min,
        }),
    }
}

fn memory_for_limit(spec: &Spec) -> u64 {
    let resources = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    let limit = resources
        .and_then(|resources| resources.memory().as_ref())
        .and_then(oci_spec::runtime::LinuxMemory::limit)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|&bytes| bytes > 0);
    limit.map_or(DEFAULT_MEMORY_MIB, |bytes| {
        (bytes.div_ceil(1 << 20) + OVERHEAD_MIB).max(DEFAULT_MEMORY_MIB)
    })
}

/// As many CPUs as it takes to use up the quota, if there is one.
fn quota_in_cpus(spec: &Spec) -> Option<u32> {
    let resources = spec.linux().as_ref()?.resources().as_ref()?;
    let cpu = resources.cpu().as_ref()?;
    let quota = u64::try_from(cpu.quota()?)
        .ok()
        .filter(|&quota| quota > 0)?;
    // The period's default is the kernel's: 100 ms.
    let period = cpu.period().unwrap_or(100_000).max(1);
    Some(u32::try_from(quota.div_ceil(period)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOST: Host = Host {
        memory_mib: 4096,
        cpus: || 4,
    };

    fn resources(
        annotations: &serde_json::Value,
        resources: &serde_json::Value,
    ) -> Result<Resources, ResourceError> {
        let spec = json!({
            "ociVersion": "1.0.2",
            "annotations": annotations,
            "linux": { "resources": resources },
        });
        Resources::of(&serde_json::from_value(spec).unwrap(), HOST)
    }

    #[test]
    fn defaults_without_any_wish() {
        let size = resources(&json!({}), &json!({})).unwrap();
        assert_eq!(
            size,
            Resources {
                memory_mib: DEFAULT_MEMORY_MIB,
                vcpus: 1
            }
        );
    }

    #[test]
    fn limits_decide_the_size() {
        let limits = json!({
            "memory": { "limit": 1 << 30 },
            "cpu": { "quota": 250_000, "period": 100_000 },
        });
        let size = resources(&json!({}), &limits).unwrap();
        assert_eq!(
            size,
            Resources {
                memory_mib: 1024 + OVERHEAD_MIB,
                vcpus: 3
            }
        );
    }

    #[test]
    fn no_limit_is_not_a_limit() {
        let limits = json!({ "memory": { "limit": -1 }, "cpu": { "quota": -1 } });
        let size = resources(&json!({}), &limits).unwrap();
        assert_eq!(
            size,
            Resources {
                memory_mib: DEFAULT_MEMORY_MIB,
                vcpus: 1
            }
        );
    }

    #[test]
    fn annotations_win() {
        let annotations = json!({ MEMORY_ANNOTATION: "512", VCPUS_ANNOTATION: "2" });
        let limits = json!({ "memory": { "limit": 1 << 31 }, "cpu": { "quota": 400_000 } });
        let size = resources(&annotations, &limits).unwrap();
        assert_eq!(
            size,
            Resources {
                memory_mib: 512,
                vcpus: 2
            }
        );
    }

    #[test]
    fn quota_does_not_exceed_the_host() {
        let size = resources(&json!({}), &json!({ "cpu": { "quota": 6_400_000 } })).unwrap();
        assert_eq!(size.vcpus, 4);
    }

    #[test]
    fn nonsense_is_named() {
        for value in ["lots", "-1", "", "1", "99999999999999999999"] {
            let error = resources(&json!({ MEMORY_ANNOTATION: value }), &json!({})).unwrap_err();
            assert!(error.to_string().contains(value), "{error}");
        }
        let error = resources(&json!({ MEMORY_ANNOTATION: "99999999" }), &json!({})).unwrap_err();
        assert_eq!(
            error,
            ResourceError::TooMuchMemory {
                memory_mib: 99_999_999,
                host_mib: HOST.memory_mib
            }
        );
    }
}
