//! Edits of JSON documents. What they leave is still JSON, and most of it still
//! what it was: so it gets past the parser, and to where it is made use of.

use arbitrary::Arbitrary;
use serde_json::{Map, Value};

use crate::input::Word;

/// Edits go no further once a document has so many values.
const MAX_VALUES: usize = 4096;

/// One edit.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Edit<'a> {
    /// Which of the document's values, in the order of their appearance.
    place: u16,
    change: Change<'a>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Change<'a> {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Small(i8),
    Text(Text<'a>),
    /// Has a text inserted into its own.
    Insert(u8, Text<'a>),
    EmptyList,
    EmptyObject,
    /// Becomes what another value is.
    Copy(u16),
    /// Loses one of its members.
    Remove(u8),
    /// Has its last member twice.
    Grow,
    /// Has a copy of one of its members, with a text inserted into the name.
    Name(u8, u8, Text<'a>),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Text<'a> {
    Any(Word<'a>),
    Odd(u8),
}

/// What paths and names may stumble over.
const ODD: [&str; 8] = ["", ".", "..", "/", "/../", "\0", "=", "\u{e4}"];

impl<'a> Text<'a> {
    fn get(self) -> &'a str {
        match self {
            Self::Any(text) => text.0,
            Self::Odd(index) => ODD[usize::from(index) % ODD.len()],
        }
    }

    /// A text with this one inserted somewhere.
    fn insert_into(self, text: &str, at: u8) -> String {
        let at = text.floor_char_boundary(usize::from(at) % (text.len() + 1));
        [&text[..at], self.get(), &text[at..]].concat()
    }
}

/// Edits a document.
pub fn apply(document: &mut Value, edits: &[Edit<'_>]) {
    for edit in edits {
        let count = count(document);
        if count > MAX_VALUES {
            break;
        }
        let copied = match edit.change {
            Change::Copy(from) => at(document, usize::from(from) % count).cloned(),
            _ => None,
        };
        if let Some(value) = at(document, usize::from(edit.place) % count) {
            change(value, edit.change, copied);
        }
    }
}

fn change(value: &mut Value, change: Change<'_>, copied: Option<Value>) {
    match change {
        Change::Null => *value = Value::Null,
        Change::Bool(bool) => *value = bool.into(),
        Change::Signed(number) => *value = number.into(),
        Change::Unsigned(number) => *value = number.into(),
        Change::Float(number) => *value = number.into(),
        Change::Small(number) => *value = number.into(),
        Change::Text(text) => *value = text.get().into(),
        Change::Insert(at, text) => {
            if let Value::String(own) = value {
                *own = text.insert_into(own, at);
            }
        }
        Change::EmptyList => *value = Value::Array(Vec::new()),
        Change::EmptyObject => *value = Value::Object(Map::new()),
        Change::Copy(_) => *value = copied.unwrap_or_default(),
        Change::Remove(index) => remove(value, usize::from(index)),
        Change::Grow => grow(value),
        Change::Name(index, at, text) => name(value, usize::from(index), at, text),
    }
}

fn remove(value: &mut Value, index: usize) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            items.remove(index % items.len());
        }
        Value::Object(members) if !members.is_empty() => {
            let name = members.keys().nth(index % members.len()).cloned();
            members.remove(&name.unwrap_or_default());
        }
        _ => {}
    }
}

fn name(value: &mut Value, index: usize, at: u8, text: Text<'_>) {
    if let Value::Object(members) = value
        && let Some((name, member)) = members.iter().nth(index % members.len().max(1))
    {
        let (name, member) = (text.insert_into(name, at), member.clone());
        members.insert(name, member);
    }
}

fn grow(value: &mut Value) {
    if let Value::Array(items) = value
        && let Some(last) = items.last().cloned()
    {
        items.push(last);
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

fn at(document: &mut Value, place: usize) -> Option<&mut Value> {
    fn seek<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
        if *left == 0 {
            return Some(value);
        }
        *left -= 1;
        match value {
            Value::Array(items) => items.iter_mut().find_map(|item| seek(item, left)),
            Value::Object(members) => members.values_mut().find_map(|item| seek(item, left)),
            _ => None,
        }
    }
    let mut left = place;
    seek(document, &mut left)
}
