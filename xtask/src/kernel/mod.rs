//! Builds the two kernels: the microVM's and the emulated host's.
//!
//! Both come from one source tree ([`source`]), and from configuration
//! fragments ([`config`]) and patches ([`patches`]) under `guest-kernel/`. The
//! guest's is then made ready ([`returns`], [`static_calls`]) and laid out for its
//! loader ([`segments`]). A finished kernel is kept
//! under a key made from everything that went into it ([`cache`]), so it is
//! built once per machine, however many clones there are.
mod cache;
mod config;
mod elf;
mod make;
mod patches;
mod returns;
mod segments;
mod source;
mod static_calls;
mod symbols;

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use self::cache::Entry;
use self::config::Fragments;
use self::patches::Patches;
use self::source::Source;

/// The Debian packages that a build needs, the source itself excepted.
pub(crate) const PACKAGES: &[&str] = &[
    "bc",
    "binutils",
    "bison",
    "flex",
    "gcc",
    "libc6-dev",
    "libelf-dev",
    "make",
    "patch",
    "perl",
    "tar",
    "xz-utils",
];

/// The Debian package that holds the source. Where apt does not offer it, the
/// source is downloaded instead, which takes `curl`.
pub(crate) const SOURCE_PACKAGE: &str = "linux-source-6.12";

/// What a kernel is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// The microVM: no firmware, no PCI, booted by `bulkhead vmm`.
    Guest,
    /// The emulated machine that the tests run microVMs in.
    EmulatedHost,
}

impl Flavour {
    /// The folder of the fragments that this flavour alone has.
    fn folder(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::EmulatedHost => "emulated-host",
        }
    }

    /// What `make` is asked for.
    fn target(self) -> &'static str {
        match self {
            Self::Guest => "vmlinux",
            Self::EmulatedHost => "bzImage",
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guest => "guest",
            Self::EmulatedHost => "emulated host's",
        })
    }
}

/// How to build.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// Build again even though the cache has it, and fail unless both builds
    /// are the same bytes.
    pub(crate) verify: bool,
}

/// A finished kernel in the cache.
#[derive(Clone, Debug)]
pub(crate) struct KernelImage {
    /// Uncompressed ELF image, without symbols.
    pub(crate) vmlinux: PathBuf,
    /// Compressed image for boot loaders, of [`Flavour::EmulatedHost`] only.
    pub(crate) bzimage: Option<PathBuf>,
    /// The kernel's own release string, as `uname -r` prints it.
    pub(crate) release: String,
    /// Seconds that the build took, whenever that was.
    pub(crate) build_seconds: u64,
    /// Bytes of `vmlinux` that are loaded into memory.
    pub(crate) loaded_bytes: u64,
}

/// What a kernel is made from.
struct Recipe {
    flavour: Flavour,
    source: Source,
    patches: Patches,
    fragments: Fragments,
}

/// Gives the kernel of `flavour`, from the cache or newly built.
pub(crate) fn build(flavour: Flavour, options: Options) -> Result<KernelImage> {
    let recipe = Recipe {
        flavour,
        source: Source::locate()?,
        patches: Patches::find(flavour)?,
        fragments: Fragments::load(flavour)?,
    };
    let entry = Entry::lock(&recipe)?;
    match entry.image()? {
        None => entry.publish(&make::build(&recipe, &entry)?),
        Some(image) if !options.verify => Ok(image),
        Some(image) => {
            let again = make::build(&recipe, &entry)?;
            let differing = entry.differences(&again)?;
            ensure!(
                differing.is_empty(),
                "two builds of the {flavour} kernel differ in {}; compare {} with {}",
                differing.join(", "),
                entry.folder().display(),
                again.folder.display(),
            );
            again.discard()?;
            Ok(image)
        }
    }
}
