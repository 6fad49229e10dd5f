//! The bench with runtimes made of a few lines of shell: no guest, no container.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::watch::Interrupt;

/// A runtime that behaves: `spec` writes a configuration; `run` and `exec` answer
/// with a stamp, and `run` with another one after `SIGTERM`, or at once for the
/// container that exits.
const GOOD: &str = r#"#!/bin/sh
stamp() { printf '12345678'; }
case $1 in
--version) echo "fake 1.0"; exit ;;
spec) echo '{"process":{}}' >"$3/config.json"; exit ;;
esac
root=$2; verb=$3
echo "$*" >>"${0%/*}/calls"
case $verb in
exec) stamp ;;
run) trap 'stamp; exit 0' TERM
    stamp
    case $* in *exiting*) exit ;; esac
    while :; do sleep 0.01; done ;;
esac
"#;

fn program(directory: &TempDir, name: &str, script: &str) -> PathBuf {
    let path = directory.path().join(name);
    let source = directory.path().join(format!("{name}.source"));
    fs::write(&source, script).unwrap();
    // By another process: a file that this one has had open to write may be so
    // in a child that another test has just forked, and then cannot be executed.
    let mut install = Command::new("install");
    let status = install.args(["-m", "755"]).args([&source, &path]).status();
    assert!(status.unwrap().success());
    path
}

fn now() -> HostMoment {
    HostMoment {
        monotonic_ns: 0,
        tsc: 0,
    }
}

/// A plan with a fake Bulkhead that cannot run guests.
fn plan(directory: &TempDir, runtimes: &[(&str, &str)]) -> Plan {
    let named = |(name, script): &(&str, &str)| Named {
        name: (*name).into(),
        program: program(directory, name, script),
    };
    Plan {
        bulkhead: program(directory, "fake-bulkhead", GOOD),
        kernel: "/no/kernel".into(),
        no_kvm: Some("no KVM here".into()),
        runtimes: runtimes.iter().map(named).collect(),
        vmms: Vec::new(),
        runs: 3,
        concurrency: 2,
        size: crate::counted::SMALL,
        command: "bulkhead bench startup".into(),
        host: Host {
            now,
            virtualization: None,
        },
    }
}

fn measure(plan: &Plan) -> Report {
    let watch = Watch::new(Duration::from_mins(1), None);
    run(plan, &watch, &mut |_| {}).unwrap()
}

#[test]
fn all_figures_of_a_runtime_are_measured() {
    let directory = tempfile::tempdir().unwrap();
    let report = measure(&plan(&directory, &[("good", GOOD)]));
    let names: Vec<_> = report.subjects.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["bulkhead", "good", "bulkhead-vmm"]);
    let good = &report.subjects[1];
    assert_eq!((&good.failure, good.version.as_str()), (&None, "fake 1.0"));
    for (figure, summary) in good.latency.figures() {
        let expected = (!figure.contains("first_instruction")).then_some(3);
        assert_eq!(summary.map(|s| s.samples), expected, "{figure}");
    }
    let at_once: Vec<_> = good.concurrency.iter().map(|c| c.at_once).collect();
    let running: Vec<_> = good.density.iter().map(|d| d.running).collect();
    assert_eq!((at_once, running), (vec![1, 2], vec![0, 1, 2]));
    assert!(good.idle_pod.unwrap().pss_kib > 0);
}

#[test]
fn host_without_kvm_is_told_and_others_are_measured() {
    let directory = tempfile::tempdir().unwrap();
    let report = measure(&plan(&directory, &[("good", GOOD)]));
    let failure = report.subjects[0].failure.as_ref().unwrap();
    assert_eq!(failure.message, "no KVM here");
    assert!(report.is_incomplete());
    assert!(report.subjects[1].latency.run.is_some());
}

#[test]
fn program_that_is_no_runtime_is_a_failure_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\necho no such verb >&2\n";
    let report = measure(&plan(&directory, &[("none", script), ("good", GOOD)]));
    let failure = report.subjects[1].failure.as_ref().unwrap();
    assert_eq!(failure.during, "warm-up");
    assert!(failure.message.contains("no such verb"), "{failure:?}");
    assert_eq!(report.subjects[2].failure, None);
}

#[test]
fn what_was_measured_before_a_failure_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let script = GOOD.replace("run) trap", "run) case $* in *run-2*) exit 7;; esac; trap");
    let report = measure(&plan(&directory, &[("worse", &script)]));
    let worse = &report.subjects[1];
    let failure = worse.failure.as_ref().unwrap();
    assert_eq!(failure.during, "run 3 of 3");
    assert!(failure.message.contains("exit status: 7"), "{failure:?}");
    assert_eq!(worse.latency.run.as_ref().unwrap().samples, 2);
    let calls = fs::read_to_string(directory.path().join("calls")).unwrap();
    assert!(calls.contains("delete --force run-2"), "{calls}");
}

#[test]
fn program_that_is_not_there_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut plan = plan(&directory, &[]);
    plan.runtimes.push(Named {
        name: "gone".into(),
        program: "/no/such/runtime".into(),
    });
    let watch = Watch::new(Duration::from_mins(1), None);
    let error = run(&plan, &watch, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("/no/such/runtime"), "{error}");
    plan.runtimes[0].name = "bulkhead".into();
    let error = run(&plan, &watch, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("bulkhead"), "{error}");
}

#[test]
fn interrupt_ends_it_and_keeps_what_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(&directory, &[("good", GOOD)]);
    let (interrupt, mut raise) = Interrupt::untied();
    let watch = Watch::new(Duration::from_mins(1), Some(Arc::new(interrupt)));
    let mut steps = Vec::new();
    let report = run(&plan, &watch, &mut |step| {
        steps.push(step.to_owned());
        if step == "good: run 2 of 3" {
            raise.signal(15);
        }
    })
    .unwrap();
    assert_eq!(report.interrupted_by_signal, Some(15));
    assert_eq!(steps.last().unwrap(), "good: run 2 of 3");
    let good = report.subjects.iter().find(|s| s.name == "good").unwrap();
    assert_eq!(good.latency.run.as_ref().unwrap().samples, 1);
    assert_eq!(good.failure, None);
    let calls = fs::read_to_string(directory.path().join("calls")).unwrap();
    assert!(calls.contains("delete --force run-1"), "{calls}");
}

#[test]
fn levels_double_and_end_where_asked() {
    assert_eq!(powers_of_two(1), [1]);
    assert_eq!(powers_of_two(8), [1, 2, 4, 8]);
    assert_eq!(powers_of_two(6), [1, 2, 4, 6]);
}
