//! Documents that the protocol carries without knowing their type.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A JSON document within a message, carried as it is.
///
/// An OCI configuration travels so: each side reads it with types of its own.
/// The host's cover the whole specification, the agent's what the guest acts
/// on. What the agent cannot make sense of is then an error in the reply to
/// that request, where a typed field would spoil the whole frame.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Encodes a value.
    pub fn new<T: Serialize>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// Reads the document as a `T`.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }
}

/// Equal are documents of the same text.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Json {}

#[cfg(test)]
mod tests {
    use crate::{CreateContainer, Json, Request, RequestBody, Stdio, frame};

    #[test]
    fn document_within_a_request_survives_a_frame() {
        let spec = serde_json::json!({"root": {"path": "/run/shared/a/rootfs"}, "n": [1, 2.5]});
        let request = Request {
            id: 7,
            body: RequestBody::Create(Box::new(CreateContainer {
                container: "a".into(),
                spec: Json::new(&spec).unwrap(),
                seccomp_filter: Some(vec![1, 2, 3]),
                stdio: Stdio {
                    port: 65536,
                    stdin: true,
                    stdout: true,
                    stderr: false,
                    terminal: None,
                },
            })),
        };
        let bytes = frame::encode(&request).unwrap();
        let decoded: Request = frame::read(&mut bytes.as_slice()).unwrap().unwrap();
        assert_eq!(decoded, request);
        let RequestBody::Create(create) = decoded.body else {
            panic!("not a create request");
        };
        assert_eq!(create.spec.parse::<serde_json::Value>().unwrap(), spec);
    }
}
