//! As much of D-Bus's wire format as systemd's manager is talked to with:
//! <https://dbus.freedesktop.org/doc/dbus-specification.html>, little-endian.

use super::bus::BusError;

/// Types of messages.
pub(super) const METHOD_CALL: u8 = 1;
pub(super) const METHOD_RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// Codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const REPLY_SERIAL: u8 = 5;
const SIGNATURE: u8 = 8;

/// Length of what every message begins with, the header's array of fields included
/// only by its length.
pub(super) const FIXED_HEADER: usize = 16;

/// Longest message that is taken; what systemd answers has some hundred bytes.
const LONGEST: usize = 1 << 20;

/// A value of a unit's property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Bool(bool),
    U64(u64),
    String(String),
    Bytes(Vec<u8>),
    U32s(Vec<u32>),
    /// Pairs of a device's path and a limit.
    DeviceLimits(Vec<(String, u64)>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::U64(_) => "t",
            Self::String(_) => "s",
            Self::Bytes(_) => "ay",
            Self::U32s(_) => "au",
            Self::DeviceLimits(_) => "a(st)",
        }
    }
}

/// A property's name and value.
pub(super) type Property = (&'static str, Value);

/// Writes values, each at its alignment from the beginning.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn bool(&mut self, value: bool) -> &mut Self {
        self.u32(value.into())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.align(4);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.align(8);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn string(&mut self, value: &str) -> &mut Self {
        self.u32(value.len() as u32);
        self.0.extend(value.as_bytes());
        self.0.push(0);
        self
    }

    fn signature(&mut self, value: &str) -> &mut Self {
        self.0.push(value.len() as u8);
        self.0.extend(value.as_bytes());
        self.0.push(0);
        self
    }

    /// An array: its length in bytes comes first, and does not count the padding
    /// before the first element.
    pub(super) fn array(
        &mut self,
        alignment: usize,
        elements: impl FnOnce(&mut Self),
    ) -> &mut Self {
        self.u32(0);
        let length_at = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        elements(self);
        let length = (self.0.len() - start) as u32;
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        self
    }

    /// `a(sv)`.
    pub(super) fn properties(&mut self, properties: &[Property]) -> &mut Self {
        self.array(8, |array| {
            for (name, value) in properties {
                array.align(8);
                array.string(name).variant(value);
            }
        })
    }

    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(value) => self.bool(*value),
            Value::U64(value) => self.u64(*value),
            Value::String(value) => self.string(value),
            Value::Bytes(bytes) => self.array(1, |array| array.0.extend(bytes)),
            Value::U32s(values) => self.array(4, |array| {
                for value in values {
                    array.u32(*value);
                }
            }),
            Value::DeviceLimits(limits) => self.array(8, |array| {
                for (device, limit) in limits {
                    array.align(8);
                    array.string(device).u64(*limit);
                }
            }),
        };
    }

    fn align(&mut self, alignment: usize) {
        self.0.resize(self.0.len().next_multiple_of(alignment), 0);
    }
}

/// A call of a method of systemd's manager. `body` are the arguments, of the types
/// that `signature` names.
pub(super) fn call(serial: u32, member: &str, signature: &str, body: &Writer) -> Vec<u8> {
    let mut message = Writer(vec![b'l', METHOD_CALL, 0, 1]);
    message.u32(body.0.len() as u32).u32(serial);
    message.array(8, |fields| {
        let mut field = |code: u8, kind: &str, value: &str| {
            fields.align(8);
            fields.0.push(code);
            fields.signature(kind);
            match kind {
                "g" => fields.signature(value),
                _ => fields.string(value),
            };
        };
        field(PATH, "o", "/org/freedesktop/systemd1");
        field(INTERFACE, "s", "org.freedesktop.systemd1.Manager");
        field(MEMBER, "s", member);
        if !signature.is_empty() {
            field(SIGNATURE, "g", signature);
        }
    });
    message.align(8);
    message.0.extend(&body.0);
    message.0
}

/// How long the rest of a message is that begins so.
pub(super) fn rest_of(fixed: &[u8; FIXED_HEADER]) -> Result<usize, BusError> {
    if fixed[0] != b'l' {
        return Err(BusError::Malformed);
    }
    let mut header = Reader {
        bytes: fixed,
        at: 4,
    };
    let body = header.u32()? as usize;
    header.at = 12;
    let fields = header.u32()? as usize;
    if body > LONGEST || fields > LONGEST {
        return Err(BusError::Malformed);
    }
    Ok(fields.next_multiple_of(8) + body)
}

/// A message that came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// The serial of the call that it answers.
    pub(super) answers: Option<u32>,
    /// A signal's name.
    pub(super) member: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// Reads a whole one.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, BusError> {
        let mut reader = Reader { bytes, at: 12 };
        let end = FIXED_HEADER + reader.u32()? as usize;
        let mut message = Self {
            kind: *bytes.get(1).ok_or(BusError::Malformed)?,
            ..Self::default()
        };
        while reader.at < end {
            reader.align(8);
            let code = reader.u8()?;
            match (code, reader.signature()?) {
                (REPLY_SERIAL, b"u") => message.answers = Some(reader.u32()?),
                (MEMBER, b"s") => message.member = Some(reader.string()?),
                (_, b"s" | b"o") => drop(reader.string()?),
                (_, b"g") => drop(reader.signature()?),
                (_, b"u") => drop(reader.u32()?),
                _ => return Err(BusError::Malformed),
            }
        }
        let body = bytes.get(end.next_multiple_of(8)..);
        message.body = body.ok_or(BusError::Malformed)?.to_vec();
        Ok(message)
    }
}

/// Reads values as [`Writer`] writes them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn u8(&mut self) -> Result<u8, BusError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, BusError> {
        self.align(4);
        let bytes = self.take(4)?.try_into();
        bytes
            .map(u32::from_le_bytes)
            .map_err(|_| BusError::Malformed)
    }

    /// A string, or the path of an object.
    pub(super) fn string(&mut self) -> Result<String, BusError> {
        let length = self.u32()? as usize;
        let bytes = self.take(length)?.to_vec();
        self.take(1)?;
        String::from_utf8(bytes).map_err(|_| BusError::Malformed)
    }

    fn signature(&mut self) -> Result<&'a [u8], BusError> {
        let length = self.u8()? as usize;
        let bytes = self.take(length)?;
        self.take(1)?;
        Ok(bytes)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], BusError> {
        let end = self.at.checked_add(count).ok_or(BusError::Malformed)?;
        let bytes = self.bytes.get(self.at..end).ok_or(BusError::Malformed)?;
        self.at = end;
        Ok(bytes)
    }

    fn align(&mut self, alignment: usize) {
        self.at = self.at.next_multiple_of(alignment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_say_their_length_without_padding() {
        let mut writer = Writer::default();
        writer.properties(&[("N", Value::U64(7))]);
        let expected = [
            24, 0, 0, 0, 0, 0, 0, 0, // length, padding
            1, 0, 0, 0, b'N', 0, // name
            1, b't', 0, // type
            0, 0, 0, 0, 0, 0, 0, // padding
            7, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(writer.0[4..8], [0; 4]);
        assert_eq!(writer.0.len(), 8 + 24);
        assert_eq!(writer.0, expected);
    }

    #[test]
    fn call_is_read_as_it_was_written() {
        let mut body = Writer::default();
        body.string("unit").bool(true);
        let bytes = call(3, "Method", "sb", &body);
        let fixed = bytes[..FIXED_HEADER].try_into().unwrap();
        assert_eq!(rest_of(&fixed).unwrap(), bytes.len() - FIXED_HEADER);
        let message = Message::read(&bytes).unwrap();
        assert_eq!(message.kind, METHOD_CALL);
        assert_eq!(message.member.as_deref(), Some("Method"));
        let mut reader = Reader::new(&message.body);
        assert_eq!(reader.string().unwrap(), "unit");
        assert_eq!(reader.u32().unwrap(), 1);
        assert!(reader.u32().is_err());
    }

    #[test]
    fn message_that_breaks_off_is_an_error() {
        let bytes = call(3, "Method", "s", Writer::default().string("unit"));
        let end = bytes.len() - "....unit.".len();
        for length in 0..end {
            assert!(Message::read(&bytes[..length]).is_err(), "{length}");
        }
        assert!(rest_of(&[0xff; FIXED_HEADER]).is_err());
    }
}
