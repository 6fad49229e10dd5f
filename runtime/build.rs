//! Tells the program which commit it was built from, if the build knows.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=BULKHEAD_COMMIT");
    let commit = std::env::var("BULKHEAD_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=BULKHEAD_COMMIT={commit}");
}
