//! Hooks that run in the guest.

use std::path::PathBuf;

use rustix::event::Timespec;

use super::{PlanError, invalid};
use crate::config::Hook;

/// A program to run before the container's command.
#[derive(Debug, Clone)]
pub(crate) struct HookPlan {
    /// The program, absolute, in the container.
    pub(crate) path: PathBuf,
    /// Its arguments, its name among them.
    pub(crate) args: Vec<String>,
    /// All of its environment.
    pub(crate) env: Vec<String>,
    /// How long it may take.
    pub(crate) timeout: Option<Timespec>,
}

pub(super) fn plan(hooks: &[Hook]) -> Result<Vec<HookPlan>, PlanError> {
    hooks.iter().map(plan_one).collect()
}

fn plan_one(hook: &Hook) -> Result<HookPlan, PlanError> {
    const FIELD: &str = "hooks.startContainer";
    let refuse = |reason| Err(invalid(FIELD, &hook.path.display(), reason));
    if !hook.path.is_absolute() {
        return refuse("is not an absolute path");
    }
    let seconds = match hook.timeout.map(i64::try_from) {
        None => None,
        Some(Ok(seconds)) if seconds > 0 => Some(seconds),
        Some(_) => return refuse("has a timeout that is no time"),
    };
    Ok(HookPlan {
        path: hook.path.clone(),
        args: hook.args.clone(),
        env: hook.env.clone(),
        timeout: seconds.map(|tv_sec| Timespec { tv_sec, tv_nsec: 0 }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_json(json: &str) -> Result<Vec<HookPlan>, PlanError> {
        plan(&serde_json::from_str::<Vec<Hook>>(json).unwrap())
    }

    #[test]
    fn hook_is_taken_as_it_is() {
        let hooks = plan_json(r#"[{"path": "/h", "args": ["h", "x"], "timeout": 5}]"#).unwrap();
        assert_eq!(hooks[0].args, ["h", "x"]);
        assert_eq!(hooks[0].timeout.unwrap().tv_sec, 5);
    }

    #[test]
    fn hooks_that_cannot_be_are_named() {
        for json in [
            r#"[{"path": "relative"}]"#,
            r#"[{"path": "/h", "timeout": 0}]"#,
            r#"[{"path": "/h", "timeout": 18446744073709551615}]"#,
        ] {
            let error = plan_json(json).unwrap_err();
            assert!(error.to_string().contains("startContainer"), "{error}");
        }
    }
}
