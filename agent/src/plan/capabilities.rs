//! Capability sets by name.

use rustix::thread::CapabilitySet;

use crate::config::Capabilities;

/// The five sets of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CapabilityPlan {
    /// What `execve` can ever give.
    pub(crate) bounding: CapabilitySet,
    /// What the kernel checks.
    pub(crate) effective: CapabilitySet,
    /// What passes through `execve` of files that ask for it.
    pub(crate) inheritable: CapabilitySet,
    /// What may be made effective.
    pub(crate) permitted: CapabilitySet,
    /// What passes through `execve` of any file.
    pub(crate) ambient: CapabilitySet,
}

impl CapabilityPlan {
    /// Names unknown to this kernel are left out: nobody can have them, and a
    /// configuration written for a newer kernel should still work.
    pub(super) fn new(config: &Capabilities) -> Self {
        let permitted = set(&config.permitted);
        let inheritable = set(&config.inheritable);
        Self {
            bounding: set(&config.bounding),
            effective: set(&config.effective),
            inheritable,
            permitted,
            // The kernel refuses ambient capabilities beyond these two sets.
            ambient: set(&config.ambient) & permitted & inheritable,
        }
    }
}

fn set(names: &[String]) -> CapabilitySet {
    names
        .iter()
        .filter_map(|name| CapabilitySet::from_name(name.strip_prefix("CAP_")?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_become_bits_and_unknown_ones_nothing() {
        assert_eq!(
            set(&names(&[
                "CAP_CHOWN",
                "CAP_CHECKPOINT_RESTORE",
                "CAP_FUTURE",
                "KILL"
            ])),
            CapabilitySet::CHOWN | CapabilitySet::CHECKPOINT_RESTORE
        );
    }

    #[test]
    fn ambient_set_stays_within_what_the_kernel_takes() {
        let plan = CapabilityPlan::new(&Capabilities {
            permitted: names(&["CAP_CHOWN", "CAP_KILL"]),
            inheritable: names(&["CAP_KILL"]),
            ambient: names(&["CAP_CHOWN", "CAP_KILL"]),
            ..Capabilities::default()
        });
        assert_eq!(plan.ambient, CapabilitySet::KILL);
    }
}
