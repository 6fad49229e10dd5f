//! Compiles a bundle's seccomp profile to the program the guest's kernel runs.

use std::fs::File;
use std::io::{self, Read, Seek};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
    error::SeccompError,
};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use rustix::fs::MemfdFlags;

/// Why a profile cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// The listener would sit on the other side of the hypervisor boundary.
    #[error("the seccomp profile asks for SCMP_ACT_NOTIFY, which is not supported")]
    Notify,
    /// An argument that no system call has.
    #[error("the seccomp profile's rule for {syscall} names argument {index}; there are six")]
    ArgumentIndex {
        /// The system call.
        syscall: String,
        /// The index.
        index: usize,
    },
    /// A value that does not fit where the kernel puts it.
    #[error("the seccomp profile's errnoRet {value} is out of range")]
    ErrnoRange {
        /// The value.
        value: u32,
    },
    /// libseccomp refused.
    #[error("cannot compile the seccomp profile")]
    Compile(#[from] SeccompError),
    /// The program could not be read back.
    #[error("cannot take over the compiled seccomp profile")]
    Export(#[from] io::Error),
}

/// Compiles a profile to an array of `struct sock_filter`.
///
/// As with runc, names of system calls that this libseccomp does not know are
/// passed over, and what is answered like anything else needs no rule.
pub(crate) fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>, ProfileError> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut filter = ScmpFilterContext::new(default)?;
    for arch in profile.architectures().iter().flatten() {
        // The guest is x86-64; rules for other processors never match.
        if let Some(arch) = architecture(*arch) {
            filter.add_arch(arch)?;
        }
    }
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        if action != default {
            add_rule(&mut filter, rule, action)?;
        }
    }
    export(&filter)
}

/// libseccomp writes the program to a file.
fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>, ProfileError> {
    let file = rustix::fs::memfd_create("seccomp", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
    filter.export_bpf(&file)?;
    let mut file = File::from(file);
    file.rewind()?;
    let mut program = Vec::new();
    file.read_to_end(&mut program)?;
    Ok(program)
}

fn add_rule(
    filter: &mut ScmpFilterContext,
    rule: &LinuxSyscall,
    action: ScmpAction,
) -> Result<(), ProfileError> {
    for name in rule.names() {
        let Ok(syscall) = ScmpSyscall::from_name(name) else {
            log::debug!("seccomp profile: no system call {name} known");
            continue;
        };
        let conditions = rule.args().iter().flatten().map(|arg| condition(name, arg));
        let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
        if has_duplicate_index(rule) {
            // libseccomp takes one condition for each argument; runc reads
            // several for one as alternatives.
            for condition in conditions {
                filter.add_rule_conditional(action, syscall, &[condition])?;
            }
        } else {
            filter.add_rule_conditional(action, syscall, &conditions)?;
        }
    }
    Ok(())
}

fn has_duplicate_index(rule: &LinuxSyscall) -> bool {
    let mut seen = [false; 6];
    rule.args().iter().flatten().any(|arg| {
        seen.get_mut(arg.index())
            .is_some_and(|seen| std::mem::replace(seen, true))
    })
}

fn condition(syscall: &str, arg: &LinuxSeccompArg) -> Result<ScmpArgCompare, ProfileError> {
    let index = u32::try_from(arg.index())
        .ok()
        .filter(|index| *index < 6)
        .ok_or_else(|| ProfileError::ArgumentIndex {
            syscall: syscall.to_owned(),
            index: arg.index(),
        })?;
    let (operator, value) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        // Here `value` is the mask and `valueTwo` what remains under it.
        LinuxSeccompOperator::ScmpCmpMaskedEq => (
            ScmpCompareOp::MaskedEqual(arg.value()),
            arg.value_two().unwrap_or(0),
        ),
    };
    Ok(ScmpArgCompare::new(index, operator, value))
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, ProfileError> {
    let number = || {
        let value = errno.unwrap_or(rustix::io::Errno::PERM.raw_os_error().cast_unsigned());
        u16::try_from(value).map_err(|_| ProfileError::ErrnoRange { value })
    };
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            ScmpAction::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(number()?.into()),
        LinuxSeccompAction::ScmpActNotify => return Err(ProfileError::Notify),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(number()?),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
    })
}

fn architecture(arch: Arch) -> Option<ScmpArch> {
    match arch {
        Arch::ScmpArchNative | Arch::ScmpArchX86_64 => Some(ScmpArch::X8664),
        Arch::ScmpArchX86 => Some(ScmpArch::X86),
        Arch::ScmpArchX32 => Some(ScmpArch::X32),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compile_json(profile: &Value) -> Result<Vec<u8>, ProfileError> {
        compile(&serde_json::from_value(profile.clone()).unwrap())
    }

    #[test]
    fn profile_becomes_whole_instructions() {
        let program = compile_json(&json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_ARM"],
            "syscalls": [
                { "names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW" },
                { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [
                    { "index": 0, "value": 0, "op": "SCMP_CMP_EQ" },
                    { "index": 0, "value": 8, "op": "SCMP_CMP_EQ" },
                ] },
                { "names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
                    { "index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" },
                ] },
                { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
            ],
        }))
        .unwrap();
        assert!(program.len() > 64);
        assert_eq!(program.len() % 8, 0, "whole sock_filter structures");
    }

    #[test]
    fn rule_like_the_default_is_no_error() {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW" }],
        });
        compile_json(&profile).unwrap();
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        let notify = json!({ "defaultAction": "SCMP_ACT_NOTIFY" });
        assert!(matches!(compile_json(&notify), Err(ProfileError::Notify)));
        let index = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_TRAP", "args": [
                { "index": 6, "value": 0, "op": "SCMP_CMP_EQ" },
            ] }],
        });
        assert!(matches!(
            compile_json(&index),
            Err(ProfileError::ArgumentIndex { index: 6, .. })
        ));
        let errno = json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70_000 });
        assert!(matches!(
            compile_json(&errno),
            Err(ProfileError::ErrnoRange { value: 70_000 })
        ));
    }
}
