//! Errors as the client is told of them.

use std::error::Error;

use bulkhead_protocol::{ErrorKind, RemoteError};

/// An error and its causes in one line. The system's own words come without
/// the number that the standard library adds.
pub(crate) fn remote(kind: ErrorKind, error: &dyn Error) -> RemoteError {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        message.push_str(": ");
        message.push_str(text.split(" (os error").next().unwrap_or(&text));
        source = cause.source();
    }
    RemoteError { kind, message }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot do it")]
    struct Outer(#[source] io::Error);

    #[test]
    fn causes_follow_in_the_system_s_words() {
        let error = Outer(io::Error::from_raw_os_error(2));
        assert_eq!(
            remote(ErrorKind::Internal, &error).message,
            "cannot do it: No such file or directory"
        );
    }
}
