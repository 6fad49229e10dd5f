//! What the fuzz targets share.
#![forbid(unsafe_code)]

pub mod edit;
pub mod input;
pub mod ring;
pub mod vsock;

use std::fs;
use std::sync::LazyLock;

use serde_json::Value;

/// A configuration of a bundle that says something about everything.
pub fn config() -> Value {
    static CONFIG: LazyLock<Value> = LazyLock::new(|| {
        serde_json::from_str(include_str!("config.json")).expect("a configuration")
    });
    CONFIG.clone()
}

/// How many files this process has open.
pub fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Cuts bytes into pieces as a stream may bring them: of these lengths, the
/// last of what is left.
pub fn pieces<'a>(bytes: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for &len in lengths {
        let Some((piece, later)) = rest.split_at_checked(usize::from(len)) else {
            break;
        };
        pieces.push(piece);
        rest = later;
    }
    pieces.push(rest);
    pieces
}
