//! Reads settings from a [`document`](super::document) and notes everything that is wrong in it.
//!
//! serde ends at the first error. Here the value at fault is left out and the rest is read again, so that one attempt
//! shows all errors; a key that does not exist is noted without that.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::value::{MapDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::document::{Node, Place, Table, Value, listed};
use super::suggestion::closest;

/// The key under which serde and `toml` pass a date on, in a map of its own.
const DATETIME_KEY: &str = "$__toml_private_datetime";

/// What is wrong with one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The setting, such as `timeouts.hosts[0].stall`; empty for the whole document.
    pub(super) path: String,
    /// Where it is written: the value, or the key if there is none of this name.
    pub(super) place: Place,
    pub(super) reason: String,
    /// A key that does not exist: which key may have been meant, if there is a similar one.
    pub(super) unknown: Option<Option<&'static str>>,
}

/// The settings of a document, and everything in it that was left out because it is wrong.
pub(super) fn read<T: DeserializeOwned + Default>(document: &Node) -> (T, Vec<Fault>) {
    let mut left_out = BTreeSet::new();
    let mut faults = Vec::new();
    // Each attempt finds them again, unless they are in a table that is left out.
    let unknown = RefCell::default();
    loop {
        let reader = Reader {
            node: document,
            path: String::new(),
            left_out: &left_out,
            unknown: &unknown,
        };
        let error = match T::deserialize(reader) {
            Ok(settings) => {
                faults.extend(unknown.into_inner().into_values());
                return (settings, faults);
            }
            Err(error) => error,
        };
        let (path, place) = error
            .at
            .unwrap_or_else(|| (String::new(), document.place.clone()));
        faults.push(Fault {
            path: path.clone(),
            place,
            reason: error.reason,
            unknown: None,
        });
        // The whole document, or the same value again: nothing more is to be learnt.
        if path.is_empty() || !left_out.insert(path) {
            faults.extend(unknown.into_inner().into_values());
            return (T::default(), faults);
        }
    }
}

/// Why a value cannot be read, and which.
#[derive(Debug)]
pub(super) struct ReadError {
    reason: String,
    at: Option<(String, Place)>,
}

impl ReadError {
    /// The innermost value is the one at fault.
    fn within(mut self, path: &str, node: &Node) -> Self {
        self.at
            .get_or_insert_with(|| (path.to_owned(), node.place.clone()));
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        ReadError {
            reason: reason.to_string(),
            at: None,
        }
    }

    /// Without the value, which may be a secret.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "integer",
            Unexpected::Float(_) => "float",
            Unexpected::Char(_) | Unexpected::Str(_) => "string",
            Unexpected::Seq => "array",
            Unexpected::Map => "table",
            _ => "something else",
        };
        Self::custom(format_args!("expected {expected}, found {found}"))
    }

    fn unknown_variant(written: &str, choices: &'static [&'static str]) -> Self {
        let choices: Vec<String> = choices
            .iter()
            .map(|choice| format!("\"{choice}\""))
            .collect();
        let choices = choices.join(" or ");
        Self::custom(format_args!("`{written}` is not possible; write {choices}"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("missing key `{field}`"))
    }
}

/// Reads one value.
struct Reader<'d> {
    node: &'d Node,
    path: String,
    left_out: &'d BTreeSet<String>,
    unknown: &'d RefCell<BTreeMap<String, Fault>>,
}

impl<'d> Reader<'d> {
    fn of(&self, node: &'d Node, path: String) -> Self {
        Reader {
            node,
            path,
            left_out: self.left_out,
            unknown: self.unknown,
        }
    }

    /// The value is of another type.
    fn expected(&self, what: &str, remedy: &str) -> ReadError {
        let found = self.node.value.kind();
        let error = format!("expected {what}, found {found}{remedy}");
        ReadError::custom(error).within(&self.path, self.node)
    }

    fn key_path(&self, key: &str) -> String {
        match self.path.is_empty() {
            true => key.to_owned(),
            false => format!("{}.{key}", self.path),
        }
    }

    /// The entries of a table, without those that do not exist or are left out.
    fn entries(&self, table: &'d Table, fields: Option<&'static [&'static str]>) -> Entries<'d> {
        let mut entries = Vec::new();
        for (key, node) in table {
            let path = self.key_path(&key.name);
            match fields {
                _ if self.left_out.contains(&path) => {}
                Some(fields) if !fields.contains(&key.name.as_str()) => {
                    let fault = Fault {
                        reason: unknown_key(&key.name, fields),
                        unknown: Some(closest(&key.name, fields)),
                        path: path.clone(),
                        place: key.place.clone(),
                    };
                    self.unknown.borrow_mut().insert(path, fault);
                }
                _ => entries.push((key.name.as_str(), self.of(node, path))),
            }
        }
        entries.reverse();
        Entries {
            entries,
            value: None,
        }
    }

    fn items(&self, items: &'d [Node]) -> Items<'d> {
        let mut readers = Vec::new();
        for (index, node) in items.iter().enumerate() {
            let path = format!("{}[{index}]", self.path);
            if !self.left_out.contains(&path) {
                readers.push(self.of(node, path));
            }
        }
        readers.reverse();
        Items(readers)
    }
}

fn unknown_key(name: &str, fields: &[&'static str]) -> String {
    match closest(name, fields) {
        Some(meant) => format!("unknown key `{name}`; did you mean `{meant}`?"),
        None => {
            let fields: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
            format!(
                "unknown key `{name}`; the keys here are {}",
                fields.join(", ")
            )
        }
    }
}

/// The error belongs to this value, unless to one in it.
macro_rules! within {
    ($self:ident, $read:expr) => {{
        let (path, node) = ($self.path.clone(), $self.node);
        let read: Result<_, ReadError> = $read;
        read.map_err(|error| error.within(&path, node))
    }};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        within!(
            self,
            match &self.node.value {
                // As TOML where it is any: a number, an array, an inline table.
                Value::Text(text) => match text.trim().parse() {
                    Ok(value) => {
                        let node = Node::new(self.node.place.clone(), value);
                        return self.of(&node, self.path.clone()).deserialize_any(visitor);
                    }
                    Err(_) => visitor.visit_str(text),
                },
                Value::String(text) => visitor.visit_str(text),
                Value::Integer(number) => visitor.visit_i64(*number),
                Value::Float(number) => visitor.visit_f64(*number),
                Value::Boolean(flag) => visitor.visit_bool(*flag),
                Value::Datetime(datetime) => {
                    let entry = (DATETIME_KEY, datetime.to_string());
                    visitor.visit_map(MapDeserializer::new(std::iter::once(entry)))
                }
                Value::Array(items) => visitor.visit_seq(self.items(items)),
                Value::Table(table) => visitor.visit_map(self.entries(table, None)),
            }
        )
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Text(text) => within!(self, visitor.visit_str(text)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    /// A variable or a flag may list values without brackets, separated by commas.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Text(text) if text.trim_start().starts_with('[') => {
                self.deserialize_any(visitor)
            }
            Value::Text(text) => {
                let items = listed(&self.node.place, text);
                within!(self, visitor.visit_seq(self.items(&items)))
            }
            Value::Array(items) => within!(self, visitor.visit_seq(self.items(items))),
            Value::Table(_) => {
                let remedy = format!("; in a list of tables, each begins with [[{}]]", self.path);
                Err(self.expected("an array", &remedy))
            }
            _ => Err(self.expected("an array", "; write [...]")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Table(table) => {
                within!(self, visitor.visit_map(self.entries(table, Some(fields))))
            }
            Value::Array(_) => Err(self.expected("a table", &format!("; write [{}]", self.path))),
            _ => Err(self.expected("a table", "")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Text(text) | Value::String(text) => {
                let variant: StrDeserializer<'_, ReadError> = text.as_str().into_deserializer();
                within!(self, visitor.visit_enum(variant))
            }
            _ => Err(self.expected("a string", "")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct map identifier ignored_any
    }
}

/// The items of an array that are still to be read, the last one first.
struct Items<'d>(Vec<Reader<'d>>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Some(item) = self.0.pop() else {
            return Ok(None);
        };
        let (path, node) = (item.path.clone(), item.node);
        let read = seed.deserialize(item).map(Some);
        read.map_err(|error| error.within(&path, node))
    }
}

/// The entries of a table that are still to be read, the last one first.
struct Entries<'d> {
    entries: Vec<(&'d str, Reader<'d>)>,
    value: Option<Reader<'d>>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        let Some((key, value)) = self.entries.pop() else {
            return Ok(None);
        };
        self.value = Some(value);
        let key: StrDeserializer<'_, ReadError> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        match self.value.take() {
            Some(value) => {
                let (path, node) = (value.path.clone(), value.node);
                let read = seed.deserialize(value);
                read.map_err(|error| error.within(&path, node))
            }
            None => Err(ReadError::custom("a value without a key")),
        }
    }
}
