//! What the fuzz targets in `fuzz/` reach of this crate: the decisions about
//! configurations that nobody vouches for.

use bulkhead_protocol::Json;

use crate::config::{Config, Process};
use crate::plan::{ContainerPlan, ProcessPlan};

/// Plans a container. Whether there can be one.
pub fn plan_container(config: &Json) -> bool {
    let Ok(config) = config.parse::<Config>() else {
        return false;
    };
    let Ok(plan) = ContainerPlan::new(&config) else {
        return false;
    };
    for write in &plan.cgroup.writes {
        assert!(!write.file.contains('/') && !write.file.starts_with("cgroup."));
    }
    for sysctl in &plan.sysctls {
        assert!(
            sysctl
                .file
                .split('/')
                .all(|part| !["", ".."].contains(&part))
        );
    }
    assert_process(&plan.process);
    plan.namespaces.uid_outside(plan.process.uid);
    plan.namespaces.to_join_for_exec();
    true
}

/// Plans a further process in a container. Whether there can be one.
pub fn plan_process(config: &Json) -> bool {
    let Ok(config) = config.parse::<Process>() else {
        return false;
    };
    ProcessPlan::new(&config).inspect(assert_process).is_ok()
}

fn assert_process(plan: &ProcessPlan) {
    assert!(!plan.args.is_empty() && plan.cwd.is_absolute());
    for string in plan.args.iter().chain(&plan.env) {
        assert!(!string.contains('\0'));
    }
}
