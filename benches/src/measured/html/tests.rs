use super::super::report::{AtOnce, Failure, Latency, PodMemory, TimelinePhase, WithRunning};
use super::super::{Machine, Summary};
use super::*;
use crate::counted::SMALL;

fn report() -> Report {
    let summary = Summary::of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let pod = PodMemory {
        pss_kib: 4321,
        guest_pss_kib: 1234,
    };
    let subject = SubjectReport {
        name: "<script>".into(),
        kind: "oci",
        program: "/bin/x".into(),
        version: "x 1.0".into(),
        commands: vec!["x run ID".into()],
        failure: Some(Failure {
            during: "run 3".into(),
            message: "it broke".into(),
        }),
        latency: Latency {
            first_instruction: None,
            first_output: summary.clone(),
            run: summary.clone(),
            exec_first_instruction: None,
            exec_first_output: None,
            teardown: None,
        },
        idle_pod: Some(pod),
        phases: vec![TimelinePhase {
            name: "kvm-ready".into(),
            on: "host",
            at_ms: 2.0,
        }],
        concurrency: vec![AtOnce {
            at_once: 1,
            starts_per_s: 3.0,
            run: summary.clone(),
        }],
        density: vec![WithRunning {
            running: 0,
            idle_pods: pod,
            first_output: summary,
        }],
    };
    Report {
        schema: 1,
        started_unix_s: 0,
        took_s: 1.0,
        command: "bulkhead bench startup".into(),
        machine: Machine {
            cpu_model: "Some CPU".into(),
            cpus: 2,
            memory_mib: 1024,
            kernel: "Linux 6".into(),
            virtualization: None,
            is_virtual: false,
        },
        microvm: SMALL,
        runs: 6,
        interrupted_by_signal: Some(2),
        subjects: vec![subject],
        comparisons: Vec::new(),
    }
}

#[test]
fn page_tells_all_there_is() {
    let page = page(&report());
    for text in [
        "Some CPU",
        "x 1.0",
        "x run ID",
        "it broke",
        "Interrupted by signal 2",
        "kvm-ready",
        "4321",
        "starts per second",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn page_needs_nothing_else_and_runs_nothing() {
    let page = page(&report());
    for text in ["<script", "http:", "https:", "url(", "@import", " src="] {
        assert!(!page.contains(text), "{text}");
    }
}

#[test]
fn report_of_nothing_is_a_page() {
    let mut report = report();
    report.subjects.clear();
    assert!(page(&report).contains("</html>"));
}
