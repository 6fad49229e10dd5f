//! A bundle's configuration, from the file on the host to the agent's plan.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use bulkhead::fuzzing::guest_config;
use bulkhead_agent::fuzzing::plan_container;
use bulkhead_fuzz::edit::{self, Edit};
use bulkhead_fuzz::input::Few;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static BUNDLE: LazyLock<TempDir> = LazyLock::new(|| {
    let bundle = tempfile::tempdir().unwrap();
    fs::create_dir(bundle.path().join("rootfs")).unwrap();
    fs::create_dir(bundle.path().join("volume")).unwrap();
    bundle
});

fuzz_target!(|edits: Few<Edit<'_>, 8>| {
    let Few(edits) = edits;
    let mut config = bulkhead_fuzz::config();
    edit::apply(&mut config, &edits);
    fs::write(BUNDLE.path().join("config.json"), config.to_string()).unwrap();
    let Some(config) = guest_config(BUNDLE.path()) else {
        assert!(!edits.is_empty(), "what is edited is no configuration");
        return;
    };
    let text = serde_json::to_string(&config).unwrap();
    let host = BUNDLE.path().to_str().unwrap();
    assert!(!text.contains(host), "a path of the host reaches the guest");
    assert!(plan_container(&config) || !edits.is_empty());
});
