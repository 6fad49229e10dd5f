//! What a process is given before it executes its command.

use std::path::PathBuf;

use rustix::process::{Gid, Resource, Rlimit, Uid};

use super::{CapabilityPlan, CpuList, IoPriority, PlanError, Scheduling, invalid};
use crate::config;

/// Everything about a process but its streams.
#[derive(Debug, Clone)]
pub(crate) struct ProcessPlan {
    /// The command and its arguments; never empty.
    pub(crate) args: Vec<String>,
    /// Environment, in order.
    pub(crate) env: Vec<String>,
    /// Working directory, absolute.
    pub(crate) cwd: PathBuf,
    /// User id.
    pub(crate) uid: Uid,
    /// Group id.
    pub(crate) gid: Gid,
    /// Supplementary groups.
    pub(crate) groups: Vec<Gid>,
    /// Mask of file creation modes.
    pub(crate) umask: u32,
    /// Capabilities.
    pub(crate) capabilities: CapabilityPlan,
    /// Resource limits.
    pub(crate) limits: Vec<ResourceLimit>,
    /// Whether `execve` may give no further privileges.
    pub(crate) no_new_privileges: bool,
    /// What to write to `oom_score_adj`.
    pub(crate) oom_score_adj: Option<i16>,
    /// How it is scheduled, if not as the agent is.
    pub(crate) scheduling: Option<Scheduling>,
    /// How urgent its input and output are, likewise.
    pub(crate) io_priority: Option<IoPriority>,
    /// Processors that it is bound to if an `exec` adds it.
    pub(crate) exec_cpus: Option<CpuList>,
}

/// A resource and its limit.
#[derive(Debug, Clone)]
pub(crate) struct ResourceLimit {
    /// The resource.
    pub(crate) resource: Resource,
    /// Its limit.
    pub(crate) limit: Rlimit,
}

/// What a login would have, and what a runtime on a host passes on.
const DEFAULT_UMASK: u32 = 0o022;

impl ProcessPlan {
    /// Decides what a process of a configuration means.
    pub(crate) fn new(config: &config::Process) -> Result<Self, PlanError> {
        if config.args.is_empty() {
            return Err(PlanError::Missing("process.args"));
        }
        if !config.cwd.is_absolute() {
            let cwd = config.cwd.display();
            return Err(invalid("process.cwd", &cwd, "is not an absolute path"));
        }
        check_strings(config)?;
        let user = &config.user;
        Ok(Self {
            args: config.args.clone(),
            env: config.env.clone(),
            cwd: config.cwd.clone(),
            uid: uid(user.uid)?,
            gid: gid("process.user.gid", user.gid)?,
            groups: groups(&user.additional_gids)?,
            umask: user.umask.unwrap_or(DEFAULT_UMASK) & 0o777,
            capabilities: CapabilityPlan::new(&config.capabilities),
            limits: limits(&config.rlimits)?,
            no_new_privileges: config.no_new_privileges,
            oom_score_adj: config.oom_score_adj,
            scheduling: config.scheduler.as_ref().map(Scheduling::new).transpose()?,
            io_priority: config
                .io_priority
                .as_ref()
                .map(IoPriority::new)
                .transpose()?,
            exec_cpus: config
                .exec_cpu_affinity
                .last
                .as_deref()
                .map(CpuList::parse)
                .transpose()?,
        })
    }
}

fn check_strings(config: &config::Process) -> Result<(), PlanError> {
    let with_nul = |strings: &[String]| strings.iter().any(|string| string.contains('\0'));
    if with_nul(&config.args) {
        return Err(invalid(
            "process.args",
            &config.args.join(" "),
            "holds a NUL",
        ));
    }
    if with_nul(&config.env) {
        return Err(invalid("process.env", &config.env.join(" "), "holds a NUL"));
    }
    match config.env.iter().find(|variable| !variable.contains('=')) {
        Some(variable) => Err(invalid(
            "process.env",
            &variable,
            "is not of the form NAME=VALUE",
        )),
        None => Ok(()),
    }
}

const NO_ID: &str = "means 'no id' to the kernel";

fn uid(id: u32) -> Result<Uid, PlanError> {
    match id {
        u32::MAX => Err(invalid("process.user.uid", &id, NO_ID)),
        _ => Ok(Uid::from_raw(id)),
    }
}

fn gid(field: &'static str, id: u32) -> Result<Gid, PlanError> {
    match id {
        u32::MAX => Err(invalid(field, &id, NO_ID)),
        _ => Ok(Gid::from_raw(id)),
    }
}

fn groups(ids: &[u32]) -> Result<Vec<Gid>, PlanError> {
    ids.iter()
        .map(|id| gid("process.user.additionalGids", *id))
        .collect()
}

fn limits(configs: &[config::Rlimit]) -> Result<Vec<ResourceLimit>, PlanError> {
    for (index, config) in configs.iter().enumerate() {
        if configs[..index]
            .iter()
            .any(|other| other.kind == config.kind)
        {
            return Err(invalid("process.rlimits", &config.kind, "is there twice"));
        }
    }
    configs.iter().map(limit).collect()
}

fn limit(config: &config::Rlimit) -> Result<ResourceLimit, PlanError> {
    let resource = match config.kind.as_str() {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        other => return Err(invalid("process.rlimits", &other, "is not a resource")),
    };
    if config.soft > config.hard {
        let reason = "its soft limit is above the hard one";
        return Err(invalid("process.rlimits", &config.kind, reason));
    }
    let value = |limit| (limit != u64::MAX).then_some(limit);
    let limit = Rlimit {
        current: value(config.soft),
        maximum: value(config.hard),
    };
    Ok(ResourceLimit { resource, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<ProcessPlan, PlanError> {
        ProcessPlan::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn defaults_are_those_of_a_plain_process() {
        let plan = plan(r#"{"cwd": "/", "args": ["true"]}"#).unwrap();
        assert!(plan.uid.is_root() && plan.gid.is_root() && plan.groups.is_empty());
        assert_eq!(plan.umask, 0o022);
        assert!(plan.capabilities.permitted.is_empty());
    }

    #[test]
    fn limits_know_infinity() {
        let plan = plan(
            r#"{"cwd": "/", "args": ["true"], "rlimits":
                [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 18446744073709551615}]}"#,
        )
        .unwrap();
        let limit = &plan.limits[0].limit;
        assert_eq!((limit.current, limit.maximum), (Some(10), None));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (json, word) in [
            (r#"{"cwd": "/", "args": []}"#, "process.args"),
            (r#"{"cwd": "", "args": ["a"]}"#, "process.cwd"),
            (r#"{"cwd": "tmp", "args": ["a"]}"#, "tmp"),
            (r#"{"cwd": "/", "args": ["a\u0000b"]}"#, "NUL"),
            (r#"{"cwd": "/", "args": ["a"], "env": ["PATH"]}"#, "PATH"),
            (
                r#"{"cwd": "/", "args": ["a"], "user": {"uid": 4294967295}}"#,
                "uid",
            ),
            (
                r#"{"cwd": "/", "args": ["a"], "rlimits": [{"type": "X", "soft": 1, "hard": 1}]}"#,
                "X",
            ),
            (
                r#"{"cwd": "/", "args": ["a"],
                    "rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]}"#,
                "RLIMIT_CPU",
            ),
            (
                r#"{"cwd": "/", "args": ["a"],
                    "rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1},
                                {"type": "RLIMIT_CPU", "soft": 2, "hard": 2}]}"#,
                "twice",
            ),
            (
                r#"{"cwd": "/", "args": ["a"], "scheduler": {}}"#,
                "scheduler.policy",
            ),
            (
                r#"{"cwd": "/", "args": ["a"], "execCPUAffinity": {"final": "x"}}"#,
                "execCPUAffinity",
            ),
        ] {
            let error = plan(json).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
