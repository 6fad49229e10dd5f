//! Container ids.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A container's id: the name of its directories, and part of what the guest
/// mounts, so nothing but the characters runc allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ContainerId(String);

/// The text is not a container id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidId {
    /// There is nothing.
    #[error("the container id is empty")]
    Empty,
    /// Too long for a file name.
    #[error(
        "the container id is {len} bytes long; at most {} are allowed",
        ContainerId::MAX_LEN
    )]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A character outside of the set, or a name that means a directory.
    #[error(
        "container id {id:?} is illegal: it must consist of letters, digits, '_', '+', '-' and '.', and be neither '.' nor '..'"
    )]
    Illegal {
        /// The text.
        id: String,
    },
}

impl ContainerId {
    /// Longest id, in bytes: a file name's limit.
    pub(crate) const MAX_LEN: usize = 255;

    /// Checks an id given by a user.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidId> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+-.".contains(&b);
        match text {
            "" => Err(InvalidId::Empty),
            _ if text.len() > Self::MAX_LEN => Err(InvalidId::TooLong { len: text.len() }),
            "." | ".." => Err(InvalidId::Illegal { id: text.into() }),
            _ if text.bytes().all(is_allowed) => Ok(Self(text.into())),
            _ => Err(InvalidId::Illegal { id: text.into() }),
        }
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::parse(&text)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_runc() {
        for good in ["a", "0", "web_1", "a.b+c-d", "...", &"x".repeat(255)] {
            assert_eq!(ContainerId::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a\0",
            "ü",
            "a=b",
            &"x".repeat(256),
        ] {
            assert!(ContainerId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_from_a_file_are_checked_too() {
        assert!(serde_json::from_str::<ContainerId>(r#""../x""#).is_err());
    }
}
