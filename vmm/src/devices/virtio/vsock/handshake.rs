//! What a program on the host says to reach a port in the guest.
//!
//! It connects, writes `CONNECT <port>\n`, and reads `OK <host port>\n` once
//! the guest has accepted. The stream then carries data, in both directions.

use std::io;
use std::os::unix::net::UnixStream;

use rustix::net::RecvFlags;

/// Greatest length of a request in bytes, the newline included.
const MAX_REQUEST: usize = 32;

/// Why a program on the host did not get a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// It closed the stream without a request.
    #[error("the stream ended before the request did")]
    Ended,
    /// What it wrote is not a request.
    #[error("not of the form `CONNECT <port>`")]
    Malformed,
    /// The stream failed.
    #[error("cannot read the request")]
    Io(#[from] io::Error),
}

/// Takes the request off `stream`, which must be non-blocking, and nothing
/// after it. Returns the port, or `None` if the request is not complete yet.
pub(super) fn receive(stream: &UnixStream) -> Result<Option<u32>, HandshakeError> {
    let mut bytes = [0; MAX_REQUEST];
    let peeked = match rustix::net::recv(stream, &mut bytes, RecvFlags::PEEK) {
        Ok((0, _)) => return Err(HandshakeError::Ended),
        Ok((peeked, _)) => &bytes[..peeked],
        Err(rustix::io::Errno::AGAIN) => return Ok(None),
        Err(error) => return Err(HandshakeError::Io(error.into())),
    };
    let Some(request) = parse(peeked)? else {
        return Ok(None);
    };
    // There, as it was just seen.
    rustix::net::recv(stream, &mut bytes[..request.len], RecvFlags::empty())
        .map_err(io::Error::from)?;
    Ok(Some(request.port))
}

/// What tells the program that the guest has accepted.
pub(super) fn acceptance(host_port: u32) -> String {
    format!("OK {host_port}\n")
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    port: u32,
    /// Length in bytes, the newline included.
    len: usize,
}

/// Parses the request at the start of `bytes`: `None` if more is needed.
fn parse(bytes: &[u8]) -> Result<Option<Request>, HandshakeError> {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() < MAX_REQUEST {
            Ok(None)
        } else {
            Err(HandshakeError::Malformed)
        };
    };
    let digits = bytes[..end]
        .strip_prefix(b"CONNECT ")
        .ok_or(HandshakeError::Malformed)?;
    // `str::parse` would let a sign pass.
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(HandshakeError::Malformed);
    }
    let port = str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(HandshakeError::Malformed)?;
    Ok(Some(Request { port, len: end + 1 }))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use proptest::prelude::*;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    #[test]
    fn request_may_come_byte_by_byte() {
        let (ours, mut theirs) = pair();
        for byte in b"CONNECT 1024" {
            theirs.write_all(&[*byte]).unwrap();
            assert_eq!(receive(&ours).unwrap(), None);
        }
        theirs.write_all(b"\n").unwrap();
        assert_eq!(receive(&ours).unwrap(), Some(1024));
    }

    #[test]
    fn bytes_after_request_stay_in_stream() {
        let (mut ours, mut theirs) = pair();
        theirs.write_all(b"CONNECT 7\nhello\nworld").unwrap();
        assert_eq!(receive(&ours).unwrap(), Some(7));
        drop(theirs);
        let mut rest = String::new();
        ours.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "hello\nworld");
    }

    #[test]
    fn nothing_yet_is_not_an_end() {
        let (ours, theirs) = pair();
        assert_eq!(receive(&ours).unwrap(), None);
        drop(theirs);
        assert!(matches!(receive(&ours), Err(HandshakeError::Ended)));
    }

    #[test]
    fn malformed_requests_are_refused() {
        for bytes in [
            "\n",
            "CONNECT\n",
            "CONNECT \n",
            "CONNECT +5\n",
            "CONNECT -5\n",
            "CONNECT 5 \n",
            "CONNECT  5\n",
            "connect 5\n",
            "CONNECT 5\r\n",
            "CONNECT 4294967296\n",
            "CONNECT 000000000000000000000005",
        ] {
            assert!(
                matches!(parse(bytes.as_bytes()), Err(HandshakeError::Malformed)),
                "{bytes:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_not(bytes in prop::collection::vec(any::<u8>(), 0..=MAX_REQUEST)) {
            match parse(&bytes) {
                Ok(Some(request)) => {
                    prop_assert!(request.len <= bytes.len());
                    prop_assert_eq!(bytes[request.len - 1], b'\n');
                }
                Ok(None) => prop_assert!(bytes.len() < MAX_REQUEST && !bytes.contains(&b'\n')),
                Err(_) => {}
            }
        }

        #[test]
        fn any_port_can_be_asked_for(port: u32, rest in prop::collection::vec(any::<u8>(), 0..8)) {
            let line = format!("CONNECT {port}\n");
            let mut bytes = line.clone().into_bytes();
            bytes.extend(rest);
            prop_assert_eq!(parse(&bytes).unwrap(), Some(Request { port, len: line.len() }));
        }

        #[test]
        fn a_prefix_is_never_an_error(port: u32, cut in 0usize..10) {
            let line = format!("CONNECT {port}");
            let bytes = &line.as_bytes()[..line.len() - cut];
            prop_assert_eq!(parse(bytes).unwrap(), None);
        }
    }
}
