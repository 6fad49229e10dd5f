//! Numbers for people.

use std::fmt::Write;

/// Lower-case hexadecimal, as `sha256sum` prints.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
