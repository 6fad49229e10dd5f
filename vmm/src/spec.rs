//! A valid configuration.

use std::collections::HashSet;
use std::os::fd::RawFd;
use std::path::PathBuf;

use crate::arch::x86_64::{layout, mptable};
use crate::config::{Config, Endpoint, FsConfig, NetConfig, VsockConfig};
use crate::inherited_fd::InheritedFd;

/// Less than this holds no kernel.
const MEMORY_MIN_MIB: u64 = 16;
/// More than this is more than processors address.
const MEMORY_MAX_MIB: u64 = 1 << 24;
/// Size of the tag in a file system device's configuration (virtio 1.3,
/// 5.11.4).
const FS_TAG_MAX: usize = 36;
/// Context ids up to this one are reserved (virtio 1.3, 5.10.4).
const CID_RESERVED_MAX: u64 = 2;
/// The least that IPv4 works with (RFC 791).
const MTU_MIN: u16 = 68;

/// A microVM that can be built: what [`Config`] asks for, checked once.
#[derive(Debug)]
pub struct VmSpec {
    /// The kernel image.
    pub(crate) kernel: PathBuf,
    /// The initramfs.
    pub(crate) initramfs: Option<PathBuf>,
    /// What to add to the kernel command line.
    pub(crate) cmdline: String,
    /// From 1 to [`mptable::VCPUS_MAX`].
    pub(crate) vcpus: u8,
    /// Size of RAM in bytes, whole MiB.
    pub(crate) memory_size: u64,
    /// Where the serial console's output goes.
    pub(crate) console: Option<Source>,
    /// The socket device.
    pub(crate) vsock: Option<VsockSpec>,
    /// Shared file systems, each with another tag.
    pub(crate) fs: Vec<FsSpec>,
    /// Network interfaces.
    pub(crate) net: Vec<NetSpec>,
    /// Whether there is an entropy device.
    pub(crate) rng: bool,
    /// The control stream.
    pub(crate) control: Option<InheritedFd>,
}

/// Where a file or socket comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// It is inherited.
    Fd(InheritedFd),
    /// It is opened.
    Path(PathBuf),
}

/// The socket device.
#[derive(Debug)]
pub(crate) struct VsockSpec {
    /// The guest's context id.
    pub(crate) cid: u64,
    /// The listening socket, and the prefix of those it connects to.
    pub(crate) socket: PathBuf,
}

/// A shared file system.
#[derive(Debug)]
pub(crate) struct FsSpec {
    /// 1 to [`FS_TAG_MAX`] bytes.
    pub(crate) tag: String,
    /// The vhost-user backend.
    pub(crate) backend: Source,
}

/// A network interface.
#[derive(Debug)]
pub(crate) struct NetSpec {
    /// Its address, not that of a group.
    pub(crate) mac: [u8; 6],
    /// At least [`MTU_MIN`].
    pub(crate) mtu: Option<u16>,
    /// Its other end, for each pair of queues: 1 to
    /// [`QUEUE_PAIRS_MAX`](NetConfig::QUEUE_PAIRS_MAX).
    pub(crate) taps: Vec<InheritedFd>,
}

/// Why a configuration is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// None, or more than can be described to the guest.
    #[error("{asked} vCPUs are not possible: give 1 to {max}")]
    Vcpus {
        /// What was asked for.
        asked: u32,
        /// What is possible.
        max: u8,
    },
    /// Too little or too much to try.
    #[error("{asked_mib} MiB of guest memory are not possible: give {min_mib} to {max_mib} MiB")]
    Memory {
        /// What was asked for.
        asked_mib: u64,
        /// The least possible.
        min_mib: u64,
        /// The most possible.
        max_mib: u64,
    },
    /// A context id that is not a guest's.
    #[error("vsock context id {cid} is not possible: give {} to {}", CID_RESERVED_MAX + 1, u32::MAX - 1)]
    Cid {
        /// What was asked for.
        cid: u64,
    },
    /// A tag that the device cannot hold.
    #[error("file system tag {tag:?} has {} bytes, not 1 to {FS_TAG_MAX}", tag.len())]
    FsTag {
        /// What was asked for.
        tag: String,
    },
    /// Two file systems with the same tag.
    #[error("two file systems have the tag {tag:?}")]
    DuplicateFsTag {
        /// The tag.
        tag: String,
    },
    /// An address of no station.
    #[error("{mac:02x?} is not the address of a network interface")]
    Mac {
        /// What was asked for.
        mac: [u8; 6],
    },
    /// Less than IP needs.
    #[error("an MTU of {mtu} bytes is not possible: give {MTU_MIN} or more")]
    Mtu {
        /// What was asked for.
        mtu: u16,
    },
    /// No tap, or more than there can be queues for.
    #[error(
        "a network device with {asked} taps is not possible: give 1 to {}",
        NetConfig::QUEUE_PAIRS_MAX
    )]
    QueuePairs {
        /// How many were given.
        asked: usize,
    },
    /// More devices than there are interrupts.
    #[error("{asked} virtio devices are not possible: {max} at most")]
    TooManyDevices {
        /// What was asked for.
        asked: usize,
        /// What is possible.
        max: usize,
    },
    /// A standard descriptor, or a negative number.
    #[error(
        "file descriptor {fd} cannot be given to the VMM: use {} or above",
        InheritedFd::MIN
    )]
    StandardFd {
        /// Its number.
        fd: RawFd,
    },
    /// A descriptor for two purposes.
    #[error("file descriptor {fd} is given twice")]
    DuplicateFd {
        /// Its number.
        fd: RawFd,
    },
}

impl TryFrom<Config> for VmSpec {
    type Error = SpecError;

    fn try_from(config: Config) -> Result<Self, SpecError> {
        let mut fds = Fds::default();
        check_device_count(&config)?;
        Ok(Self {
            vcpus: vcpus(config.vcpus)?,
            memory_size: memory_size(config.memory_mib)?,
            console: config
                .console
                .map(|endpoint| fds.source(endpoint))
                .transpose()?,
            vsock: config.vsock.map(vsock).transpose()?,
            fs: fs(config.fs, &mut fds)?,
            net: net(config.net, &mut fds)?,
            control: config.control_fd.map(|fd| fds.claim(fd)).transpose()?,
            kernel: config.kernel,
            initramfs: config.initramfs,
            cmdline: config.cmdline,
            rng: config.rng,
        })
    }
}

/// The inherited descriptors that have found their purpose.
#[derive(Default)]
struct Fds(HashSet<RawFd>);

impl Fds {
    fn claim(&mut self, fd: RawFd) -> Result<InheritedFd, SpecError> {
        if fd < InheritedFd::MIN {
            return Err(SpecError::StandardFd { fd });
        }
        if !self.0.insert(fd) {
            return Err(SpecError::DuplicateFd { fd });
        }
        Ok(InheritedFd::new(fd))
    }

    fn source(&mut self, endpoint: Endpoint) -> Result<Source, SpecError> {
        match endpoint {
            Endpoint::Fd(fd) => Ok(Source::Fd(self.claim(fd)?)),
            Endpoint::Path(path) => Ok(Source::Path(path)),
        }
    }
}

fn vcpus(asked: u32) -> Result<u8, SpecError> {
    let max = mptable::VCPUS_MAX;
    match u8::try_from(asked) {
        Ok(vcpus) if (1..=max).contains(&vcpus) => Ok(vcpus),
        _ => Err(SpecError::Vcpus { asked, max }),
    }
}

fn memory_size(asked_mib: u64) -> Result<u64, SpecError> {
    let (min_mib, max_mib) = (MEMORY_MIN_MIB, MEMORY_MAX_MIB);
    if !(min_mib..=max_mib).contains(&asked_mib) {
        return Err(SpecError::Memory {
            asked_mib,
            min_mib,
            max_mib,
        });
    }
    Ok(asked_mib << 20)
}

fn vsock(config: VsockConfig) -> Result<VsockSpec, SpecError> {
    let VsockConfig { cid, socket } = config;
    // The upper half of the field is reserved and must be zero; all ones in the
    // lower means 'any'.
    if cid <= CID_RESERVED_MAX || cid >= u64::from(u32::MAX) {
        return Err(SpecError::Cid { cid });
    }
    Ok(VsockSpec { cid, socket })
}

fn fs(configs: Vec<FsConfig>, fds: &mut Fds) -> Result<Vec<FsSpec>, SpecError> {
    let mut specs: Vec<FsSpec> = Vec::with_capacity(configs.len());
    for FsConfig { tag, backend } in configs {
        if tag.is_empty() || tag.len() > FS_TAG_MAX {
            return Err(SpecError::FsTag { tag });
        }
        if specs.iter().any(|spec| spec.tag == tag) {
            return Err(SpecError::DuplicateFsTag { tag });
        }
        specs.push(FsSpec {
            tag,
            backend: fds.source(backend)?,
        });
    }
    Ok(specs)
}

fn net(configs: Vec<NetConfig>, fds: &mut Fds) -> Result<Vec<NetSpec>, SpecError> {
    let spec = |NetConfig { mac, mtu, tap_fds }| {
        let is_group = mac[0] & 1 != 0;
        if is_group || mac == [0; 6] {
            return Err(SpecError::Mac { mac });
        }
        if let Some(mtu) = mtu.filter(|mtu| *mtu < MTU_MIN) {
            return Err(SpecError::Mtu { mtu });
        }
        let asked = tap_fds.len();
        if !(1..=NetConfig::QUEUE_PAIRS_MAX).contains(&asked) {
            return Err(SpecError::QueuePairs { asked });
        }
        let taps = tap_fds.into_iter().map(|fd| fds.claim(fd));
        Ok(NetSpec {
            mac,
            mtu,
            taps: taps.collect::<Result<_, _>>()?,
        })
    };
    configs.into_iter().map(spec).collect()
}

fn check_device_count(config: &Config) -> Result<(), SpecError> {
    let asked = config.fs.len()
        + config.net.len()
        + usize::from(config.rng)
        + usize::from(config.vsock.is_some());
    let max = layout::VIRTIO_DEVICES_MAX;
    if asked > max {
        return Err(SpecError::TooManyDevices { asked, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            kernel: "vmlinux".into(),
            initramfs: None,
            cmdline: String::new(),
            vcpus: 1,
            memory_mib: 128,
            console: None,
            vsock: None,
            fs: Vec::new(),
            net: Vec::new(),
            rng: true,
            control_fd: None,
        }
    }

    fn refusal(change: impl FnOnce(&mut Config)) -> SpecError {
        let mut config = config();
        change(&mut config);
        VmSpec::try_from(config).unwrap_err()
    }

    fn fs_config(tag: &str, fd: RawFd) -> FsConfig {
        FsConfig {
            tag: tag.into(),
            backend: Endpoint::Fd(fd),
        }
    }

    #[test]
    fn plain_configuration_is_valid() {
        let spec = VmSpec::try_from(config()).unwrap();
        assert_eq!((spec.vcpus, spec.memory_size), (1, 128 << 20));
    }

    #[test]
    fn vcpus_are_bounded() {
        for asked in [0, 65, 257, u32::MAX] {
            assert_eq!(
                refusal(|c| c.vcpus = asked),
                SpecError::Vcpus { asked, max: 64 }
            );
        }
    }

    #[test]
    fn memory_is_bounded() {
        for asked in [0, 15, (1 << 24) + 1, u64::MAX] {
            let error = refusal(|c| c.memory_mib = asked);
            assert!(matches!(error, SpecError::Memory { asked_mib, .. } if asked_mib == asked));
        }
    }

    #[test]
    fn reserved_context_ids_are_refused() {
        for cid in [0, 2, u64::from(u32::MAX), 1 << 40] {
            let error = refusal(|c| {
                let socket = "v".into();
                c.vsock = Some(VsockConfig { cid, socket });
            });
            assert_eq!(error, SpecError::Cid { cid });
        }
    }

    #[test]
    fn tags_are_checked() {
        let long = "x".repeat(37);
        for tag in ["", &long] {
            let error = refusal(|c| c.fs = vec![fs_config(tag, 3)]);
            assert_eq!(error, SpecError::FsTag { tag: tag.into() });
        }
        let error = refusal(|c| c.fs = vec![fs_config("a", 3), fs_config("a", 4)]);
        assert_eq!(error, SpecError::DuplicateFsTag { tag: "a".into() });
    }

    #[test]
    fn network_interfaces_are_checked() {
        let interface = |mac, mtu, tap_fds: &[RawFd]| {
            let tap_fds = tap_fds.to_vec();
            refusal(|c| c.net = vec![NetConfig { mac, mtu, tap_fds }])
        };
        for mac in [[0; 6], [1, 0, 0, 0, 0, 1], [0xff; 6]] {
            assert_eq!(interface(mac, None, &[9]), SpecError::Mac { mac });
        }
        let (mac, mtu) = ([2; 6], 67);
        assert_eq!(interface(mac, Some(mtu), &[9]), SpecError::Mtu { mtu });
        for taps in [&[][..], &[11, 12, 13, 14, 15, 16, 17, 18, 19]] {
            let asked = taps.len();
            assert_eq!(interface(mac, None, taps), SpecError::QueuePairs { asked });
        }
        assert_eq!(
            interface(mac, None, &[9, 9]),
            SpecError::DuplicateFd { fd: 9 }
        );
    }

    #[test]
    fn descriptors_are_used_once_and_are_not_standard() {
        let error = refusal(|c| {
            c.fs = vec![fs_config("a", 7)];
            c.control_fd = Some(7);
        });
        assert_eq!(error, SpecError::DuplicateFd { fd: 7 });
        let error = refusal(|c| c.console = Some(Endpoint::Fd(1)));
        assert_eq!(error, SpecError::StandardFd { fd: 1 });
    }

    #[test]
    fn devices_are_bounded() {
        let error = refusal(|c| c.fs = (0..19).map(|i| fs_config(&i.to_string(), 3 + i)).collect());
        assert_eq!(error, SpecError::TooManyDevices { asked: 20, max: 19 });
    }

    #[test]
    fn unknown_fields_are_refused() {
        let json = r#"{"kernel":"vmlinux","vcpus":1,"memory_mib":128,"colour":"blue"}"#;
        assert!(serde_json::from_str::<Config>(json).is_err());
    }

    #[test]
    fn least_configuration_parses() {
        let json = r#"{"kernel":"vmlinux","vcpus":1,"memory_mib":128,
                       "fs":[{"tag":"shared","backend":{"fd":5}}],"console":{"path":"log"}}"#;
        let config: Config = serde_json::from_str(json).unwrap();
        assert_eq!(config.fs, [fs_config("shared", 5)]);
        assert_eq!(config.console, Some(Endpoint::Path("log".into())));
    }
}
