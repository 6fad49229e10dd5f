//! What a client asks of the agent, up to the plan of what is to be done.
#![no_main]

use arbitrary::Arbitrary;
use bulkhead_agent::fuzzing::{plan_container, plan_process};
use bulkhead_fuzz::edit::{self, Edit};
use bulkhead_fuzz::input::Few;
use bulkhead_protocol::{Request, RequestBody, frame};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    exec: bool,
    /// Of the configuration.
    config: Few<Edit<'a>, 8>,
    /// Of the message around it.
    message: Few<Edit<'a>, 2>,
}

fn request(exec: bool, config: &[Edit<'_>]) -> Value {
    let mut spec = bulkhead_fuzz::config();
    if exec {
        spec = spec["process"].take();
    }
    edit::apply(&mut spec, config);
    let stdio = json!({ "port": 65536, "stdin": true, "stdout": true, "stderr": true });
    let body = if exec {
        let process = json!({ "container": "box", "exec": "1" });
        json!({ "exec": { "process": process, "spec": spec, "stdio": stdio } })
    } else {
        let filter = "BgAAAAAA/38=";
        json!({ "create": { "container": "box", "spec": spec, "seccomp_filter": filter, "stdio": stdio } })
    };
    json!({ "id": 1, "body": body })
}

fuzz_target!(|input: Input<'_>| {
    let Input {
        exec,
        config: Few(config),
        message: Few(message),
    } = input;
    let mut request = request(exec, &config);
    edit::apply(&mut request, &message);
    let bytes = frame::encode(&request).unwrap();
    let is_possible = match frame::read::<Request>(&mut bytes.as_slice()) {
        Ok(Some(request)) => match request.body {
            RequestBody::Create(create) => plan_container(&create.spec),
            RequestBody::Exec(exec) => plan_process(&exec.spec),
            _ => false,
        },
        _ => false,
    };
    let is_edited = !config.is_empty() || !message.is_empty();
    assert!(is_possible || is_edited, "what is edited is no request");
});
