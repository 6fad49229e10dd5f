//! Holds OCI runtimes against the specification, and prints a line of JSON for each
//! case and runtime.
//!
//! Takes root, and a mount namespace that may be changed.
#![forbid(unsafe_code)]

use std::time::Instant;

use bulkhead_tests::conformance::{self, Case, Runtime};
use clap::Parser;
use serde_json::{Value, json};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// A runtime, and what it is called in the results; may be repeated
    #[arg(long = "runtime", value_name = "NAME=PATH")]
    runtimes: Vec<Runtime>,

    /// Print the names of the cases, and do nothing else
    #[arg(long)]
    list: bool,

    /// The cases to try [default: all]
    cases: Vec<String>,
}

fn main() {
    let arguments = Arguments::parse();
    let is_wanted = |case: &Case| {
        arguments.cases.is_empty() || arguments.cases.iter().any(|name| name == case.name)
    };
    for case in conformance::cases().filter(is_wanted) {
        if arguments.list {
            println!("{}", case.name);
            continue;
        }
        for runtime in &arguments.runtimes {
            println!("{}", verdict(case, runtime));
        }
    }
}

fn verdict(case: Case, runtime: &Runtime) -> Value {
    let started = Instant::now();
    let outcome = case.hold_against(runtime);
    json!({
        "case": case.name,
        "runtime": runtime.name,
        "passed": outcome.is_ok(),
        "reason": outcome.err().map(|error| format!("{error:#}")),
        "seconds": started.elapsed().as_secs_f64(),
    })
}
