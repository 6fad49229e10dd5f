//! Length-prefixed frames: four bytes of little-endian length, then as many
//! bytes of JSON.
//!
//! Both ends treat the other as hostile: a length beyond [`MAX_LEN`] ends the
//! connection before anything is allocated for it.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest frame, in bytes. A `config.json` is a few tens of KiB; the longest
/// seen in the field stay below 1 MiB.
pub const MAX_LEN: usize = 4 << 20;

const HEADER_LEN: usize = 4;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The transport failed.
    #[error("cannot transfer a frame")]
    Io(#[from] io::Error),
    /// The peer announced more than [`MAX_LEN`], or we were about to.
    #[error("frame of {len} bytes exceeds the limit of {MAX_LEN}")]
    TooLong {
        /// The length announced.
        len: usize,
    },
    /// The frame holds something else than was expected here.
    #[error("frame does not hold the expected message")]
    Json(#[from] serde_json::Error),
}

/// Encodes one message as a frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; HEADER_LEN];
    serde_json::to_writer(&mut bytes, message)?;
    let len = bytes.len() - HEADER_LEN;
    if len > MAX_LEN {
        return Err(Error::TooLong { len });
    }
    bytes[..HEADER_LEN].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(bytes)
}

/// Writes one message with a single `write_all`.
pub fn write<T: Serialize>(writer: &mut impl Write, message: &T) -> Result<(), Error> {
    writer.write_all(&encode(message)?)?;
    Ok(())
}

/// Reads one message from a blocking reader; `None` if the peer closed the
/// connection between two frames.
pub fn read<T: DeserializeOwned>(reader: &mut impl Read) -> Result<Option<T>, Error> {
    let mut decoder = Decoder::default();
    let mut chunk = [0; HEADER_LEN];
    loop {
        if let Some(message) = decoder.take()? {
            return Ok(Some(message));
        }
        // Never past the end of this frame: the rest is the next reader's.
        let wanted = decoder.missing();
        if wanted <= chunk.len() {
            let n = read_retrying(reader, &mut chunk[..wanted])?;
            if n == 0 {
                return decoder.ended().map(|()| None);
            }
            decoder.extend(&chunk[..n]);
        } else {
            let mut body = Vec::new();
            let n = reader.take(wanted as u64).read_to_end(&mut body)?;
            if n < wanted {
                return Err(unexpected_eof());
            }
            decoder.extend(&body);
        }
    }
}

fn read_retrying(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn unexpected_eof() -> Error {
    Error::Io(io::ErrorKind::UnexpectedEof.into())
}

/// Incremental decoder for non-blocking readers: feed it what arrived, take
/// out whole messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Appends bytes as they arrived.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next whole message out, if one is there.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let Some(len) = self.announced()? else {
            return Ok(None);
        };
        let end = HEADER_LEN + len;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let message = serde_json::from_slice(&self.buffer[HEADER_LEN..end]);
        self.buffer.drain(..end);
        Ok(Some(message?))
    }

    /// What the end of the stream means now: fine between two frames, an
    /// error within one.
    pub fn ended(&self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            Err(unexpected_eof())
        }
    }

    fn announced(&self) -> Result<Option<usize>, Error> {
        let Some(header) = self.buffer.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*header) as usize;
        if len > MAX_LEN {
            Err(Error::TooLong { len })
        } else {
            Ok(Some(len))
        }
    }

    /// Bytes that the frame under way still lacks (its header's, as long as
    /// that is incomplete).
    fn missing(&self) -> usize {
        match self.announced() {
            Ok(Some(len)) => HEADER_LEN + len - self.buffer.len(),
            _ => HEADER_LEN - self.buffer.len().min(HEADER_LEN),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn read_leaves_the_next_frame_alone() {
        let mut bytes = encode(&"one").unwrap();
        bytes.extend(encode(&"two").unwrap());
        let mut reader = bytes.as_slice();
        assert_eq!(read::<String>(&mut reader).unwrap().as_deref(), Some("one"));
        assert_eq!(read::<String>(&mut reader).unwrap().as_deref(), Some("two"));
        assert!(read::<String>(&mut reader).unwrap().is_none());
    }

    #[test]
    fn oversized_length_is_refused_before_its_bytes_arrive() {
        let header = u32::try_from(MAX_LEN + 1).unwrap().to_le_bytes();
        let error = read::<String>(&mut header.as_slice()).unwrap_err();
        assert!(matches!(error, Error::TooLong { len } if len == MAX_LEN + 1));
    }

    #[test]
    fn end_within_a_frame_is_an_error() {
        let bytes = encode(&"cut short").unwrap();
        for end in 1..bytes.len() {
            assert!(read::<String>(&mut &bytes[..end]).is_err(), "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, cut in 0usize..64) {
            let cut = cut.min(bytes.len());
            let mut decoder = Decoder::default();
            for part in [&bytes[..cut], &bytes[cut..]] {
                decoder.extend(part);
                while let Ok(Some(_)) = decoder.take::<serde_json::Value>() {}
            }
        }

        #[test]
        fn messages_survive_any_fragmentation(texts: Vec<String>, size in 1usize..9) {
            let mut bytes = Vec::new();
            for text in &texts {
                bytes.extend(encode(text).unwrap());
            }
            let mut decoder = Decoder::default();
            let mut decoded = Vec::new();
            for chunk in bytes.chunks(size) {
                decoder.extend(chunk);
                while let Some(text) = decoder.take::<String>().unwrap() {
                    decoded.push(text);
                }
            }
            prop_assert_eq!(decoded, texts);
            prop_assert!(decoder.ended().is_ok());
        }
    }
}
