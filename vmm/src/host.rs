//! Whether this host can run guests.
//!
//! KVM's interface being there does not mean that guests run: there are
//! software implementations behind it that cannot boot Linux. So what the
//! processor says of itself counts too.

use std::arch::x86_64::__cpuid;
use std::fmt;
use std::io;
use std::path::Path;

use kvm_bindings::KVM_API_VERSION;
use kvm_ioctls::Kvm;
use serde::Serialize;

/// The processor's virtualization technology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Virtualization {
    /// Intel VT-x (VMX).
    Vmx,
    /// AMD-V (SVM).
    Svm,
}

/// What opening `/dev/kvm` led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KvmDevice {
    /// It is open.
    Open {
        /// What `KVM_GET_API_VERSION` says.
        api_version: i32,
    },
    /// There is no such file.
    Missing {
        /// Whether the KVM module for the processor is loaded.
        module_loaded: bool,
    },
    /// The file's permissions forbid it.
    PermissionDenied,
    /// The file is there, no driver is behind it.
    NoDriver,
    /// Another error.
    Failed {
        /// `errno`.
        errno: i32,
    },
}

/// What a host tells of its fitness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// What the processor offers, if anything.
    pub virtualization: Option<Virtualization>,
    /// Whether the processor says that it is a virtual one.
    pub hypervisor: bool,
    /// How `/dev/kvm` is.
    pub kvm: KvmDevice,
}

/// Why a host cannot run guests. The text says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum Unsuitable {
    /// A physical processor without, or with disabled, VT-x and AMD-V.
    #[error(
        "the processor offers neither VT-x nor AMD-V: switch virtualization on in the firmware \
         setup, or use another machine"
    )]
    NoVirtualization,
    /// A virtual machine whose host does not pass VT-x or AMD-V on.
    #[error(
        "this is a virtual machine without nested virtualization: switch it on in the \
         hypervisor, or choose a machine type that has it"
    )]
    NestingOff,
    /// `/dev/kvm` is there, though the processor has no virtualization.
    #[error(
        "/dev/kvm belongs to a software KVM, for the processor offers neither VT-x nor AMD-V; it \
         cannot run a Linux guest: use a machine with nested virtualization, or a physical one"
    )]
    SoftwareKvm,
    /// The KVM module is not loaded.
    #[error(
        "KVM is not loaded: run 'modprobe {}' as root; if that fails, switch virtualization on in \
         the firmware setup",
        module(*virtualization)
    )]
    ModuleNotLoaded {
        /// What the module is for.
        virtualization: Virtualization,
    },
    /// KVM is loaded, but its device file is not there.
    #[error(
        "KVM is loaded, but there is no /dev/kvm here: in a container, pass the device in \
         (--device /dev/kvm)"
    )]
    DeviceMissing,
    /// The caller may not open `/dev/kvm`.
    #[error(
        "no permission to open /dev/kvm: run as root, or add the user to the group that owns it \
         (usually 'usermod -aG kvm USER', then log in anew)"
    )]
    PermissionDenied,
    /// `/dev/kvm` cannot be opened for another reason.
    #[error("cannot open /dev/kvm: {}", io::Error::from_raw_os_error(*errno))]
    CannotOpen {
        /// `errno`.
        errno: i32,
    },
    /// KVM speaks another version of its interface.
    #[error("KVM has API version {found}, not {KVM_API_VERSION}: use a Linux host")]
    WrongApiVersion {
        /// What it says.
        found: i32,
    },
}

impl fmt::Display for Virtualization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmx => "VT-x",
            Self::Svm => "AMD-V",
        })
    }
}

/// Finds out about this host.
pub fn facts() -> Facts {
    gather().0
}

/// Opens KVM, if it can run guests.
pub fn open_kvm() -> Result<Kvm, Unsuitable> {
    let (facts, kvm) = gather();
    judge(&facts)?;
    // `judge` lets only an open device pass.
    kvm.ok_or(Unsuitable::DeviceMissing)
}

/// Whether a host of which the given is known can run guests.
pub fn judge(facts: &Facts) -> Result<(), Unsuitable> {
    let Some(virtualization) = facts.virtualization else {
        return Err(match facts.kvm {
            KvmDevice::Open { .. } | KvmDevice::PermissionDenied => Unsuitable::SoftwareKvm,
            _ if facts.hypervisor => Unsuitable::NestingOff,
            _ => Unsuitable::NoVirtualization,
        });
    };
    match facts.kvm {
        KvmDevice::Open { api_version } if api_version == KVM_API_VERSION as i32 => Ok(()),
        KvmDevice::Open { api_version } => Err(Unsuitable::WrongApiVersion { found: api_version }),
        KvmDevice::Missing {
            module_loaded: true,
        } => Err(Unsuitable::DeviceMissing),
        KvmDevice::Missing {
            module_loaded: false,
        }
        | KvmDevice::NoDriver => Err(Unsuitable::ModuleNotLoaded { virtualization }),
        KvmDevice::PermissionDenied => Err(Unsuitable::PermissionDenied),
        KvmDevice::Failed { errno } => Err(Unsuitable::CannotOpen { errno }),
    }
}

fn gather() -> (Facts, Option<Kvm>) {
    let virtualization = virtualization();
    let (device, kvm) = match Kvm::new() {
        Ok(kvm) => (
            KvmDevice::Open {
                api_version: kvm.get_api_version(),
            },
            Some(kvm),
        ),
        Err(error) => (classify(error.errno(), virtualization), None),
    };
    (
        Facts {
            virtualization,
            hypervisor: is_virtual_processor(),
            kvm: device,
        },
        kvm,
    )
}

fn classify(errno: i32, virtualization: Option<Virtualization>) -> KvmDevice {
    match errno {
        libc::ENOENT => KvmDevice::Missing {
            module_loaded: virtualization
                .is_some_and(|kind| Path::new("/sys/module").join(module(kind)).exists()),
        },
        libc::EACCES | libc::EPERM => KvmDevice::PermissionDenied,
        libc::ENODEV | libc::ENXIO => KvmDevice::NoDriver,
        errno => KvmDevice::Failed { errno },
    }
}

/// The name of the kernel module.
fn module(virtualization: Virtualization) -> &'static str {
    match virtualization {
        Virtualization::Vmx => "kvm_intel",
        Virtualization::Svm => "kvm_amd",
    }
}

fn virtualization() -> Option<Virtualization> {
    const LEAF_1_ECX_VMX: u32 = 1 << 5;
    const LEAF_80000001_ECX_SVM: u32 = 1 << 2;
    if __cpuid(1).ecx & LEAF_1_ECX_VMX != 0 {
        return Some(Virtualization::Vmx);
    }
    let has_leaf = __cpuid(0x8000_0000).eax >= 0x8000_0001;
    let svm = has_leaf && __cpuid(0x8000_0001).ecx & LEAF_80000001_ECX_SVM != 0;
    svm.then_some(Virtualization::Svm)
}

fn is_virtual_processor() -> bool {
    const LEAF_1_ECX_HYPERVISOR: u32 = 1 << 31;
    __cpuid(1).ecx & LEAF_1_ECX_HYPERVISOR != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: KvmDevice = KvmDevice::Open { api_version: 12 };
    const MISSING: KvmDevice = KvmDevice::Missing {
        module_loaded: false,
    };

    fn verdict(virtualization: Option<Virtualization>, kvm: KvmDevice) -> Result<(), Unsuitable> {
        judge(&Facts {
            virtualization,
            hypervisor: false,
            kvm,
        })
    }

    #[test]
    fn hardware_with_open_device_is_suitable() {
        assert_eq!(verdict(Some(Virtualization::Vmx), OPEN), Ok(()));
        assert_eq!(verdict(Some(Virtualization::Svm), OPEN), Ok(()));
    }

    #[test]
    fn kvm_without_hardware_is_software() {
        assert_eq!(verdict(None, OPEN), Err(Unsuitable::SoftwareKvm));
        assert_eq!(
            verdict(None, KvmDevice::PermissionDenied),
            Err(Unsuitable::SoftwareKvm)
        );
    }

    #[test]
    fn missing_hardware_differs_between_physical_and_virtual() {
        assert_eq!(verdict(None, MISSING), Err(Unsuitable::NoVirtualization));
        let facts = Facts {
            virtualization: None,
            hypervisor: true,
            kvm: MISSING,
        };
        assert_eq!(judge(&facts), Err(Unsuitable::NestingOff));
    }

    #[test]
    fn missing_device_is_a_matter_of_the_module_or_the_container() {
        let virtualization = Virtualization::Svm;
        assert_eq!(
            verdict(Some(virtualization), MISSING),
            Err(Unsuitable::ModuleNotLoaded { virtualization })
        );
        assert_eq!(
            verdict(Some(virtualization), KvmDevice::NoDriver),
            Err(Unsuitable::ModuleNotLoaded { virtualization })
        );
        let loaded = KvmDevice::Missing {
            module_loaded: true,
        };
        assert_eq!(
            verdict(Some(virtualization), loaded),
            Err(Unsuitable::DeviceMissing)
        );
    }

    #[test]
    fn other_troubles_are_told_apart() {
        let vmx = Some(Virtualization::Vmx);
        assert_eq!(
            verdict(vmx, KvmDevice::PermissionDenied),
            Err(Unsuitable::PermissionDenied)
        );
        assert_eq!(
            verdict(vmx, KvmDevice::Open { api_version: 11 }),
            Err(Unsuitable::WrongApiVersion { found: 11 })
        );
        let errno = libc::EMFILE;
        assert_eq!(
            verdict(vmx, KvmDevice::Failed { errno }),
            Err(Unsuitable::CannotOpen { errno })
        );
    }

    #[test]
    fn errors_of_open_are_classified() {
        assert_eq!(classify(libc::EACCES, None), KvmDevice::PermissionDenied);
        assert_eq!(classify(libc::ENXIO, None), KvmDevice::NoDriver);
        assert_eq!(classify(libc::ENOENT, None), MISSING);
        assert_eq!(
            classify(libc::EMFILE, None),
            KvmDevice::Failed {
                errno: libc::EMFILE
            }
        );
    }

    #[test]
    fn advice_names_the_module() {
        let finding = Unsuitable::ModuleNotLoaded {
            virtualization: Virtualization::Vmx,
        };
        assert!(finding.to_string().contains("modprobe kvm_intel"));
    }
}
