//! What files, environment and flags say, before it is checked: a tree of settings, each with where it was written.
//!
//! Every source becomes such a tree, and the trees are laid over one another. `settings_reader` reads settings from a
//! tree, so a setting means the same wherever it is written.

use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use toml::value::Datetime;

use super::error::position;

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a file: its position in [`Files`], and which bytes of its text.
    File(usize, Range<usize>),
    /// In this environment variable.
    Variable(String),
    /// In this flag, such as `--port`.
    Flag(&'static str),
    /// Nowhere: it is the default.
    Default,
}

/// The files that were read, in the order in which they were.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<File>);

/// A file that was read.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Not written as TOML, but in a variable or a flag: the setting decides how it is understood.
    Text(String),
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Datetime(Datetime),
    Array(Vec<Node>),
    Table(Table),
}

/// Keys and values, in the order in which they were written.
pub(super) type Table = Vec<(Key, Node)>;

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) place: Place,
}

/// Why a text is not TOML.
pub(super) struct SyntaxError {
    pub(super) place: Place,
    pub(super) message: String,
}

impl Files {
    /// Adds a file and reads its text.
    ///
    /// # Errors
    /// Everything by which the text is not TOML.
    pub(super) fn parse(&mut self, path: PathBuf, text: String) -> Result<Node, Vec<SyntaxError>> {
        let file = self.0.len();
        self.0.push(File { path, text });
        let text = &self.0[file].text;
        let at = |span: Option<Range<usize>>| Place::File(file, span.unwrap_or(0..0));
        let fault = |error: toml::de::Error| SyntaxError {
            place: at(error.span()),
            message: error.message().replace('\n', " "),
        };
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(first_of_each_line(text, errors)
                .into_iter()
                .map(fault)
                .collect());
        }
        let table = table(file, document.into_inner()).map_err(|error| vec![error])?;
        Ok(Node {
            place: at(None),
            value: Value::Table(table),
        })
    }

    pub(super) fn get(&self, file: usize) -> Option<&File> {
        self.0.get(file)
    }
}

impl Value {
    /// What it is, as TOML calls it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) | Value::String(_) => "string",
            Value::Integer(_) => "integer",
            Value::Float(_) => "float",
            Value::Boolean(_) => "boolean",
            Value::Datetime(_) => "datetime",
            Value::Array(_) => "array",
            Value::Table(_) => "table",
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::empty_table(Place::Default)
    }
}

impl Node {
    /// A value that was not read from a file.
    pub(super) fn new(place: Place, value: toml::Value) -> Self {
        let value = match value {
            toml::Value::String(text) => Value::String(text),
            toml::Value::Integer(number) => Value::Integer(number),
            toml::Value::Float(number) => Value::Float(number),
            toml::Value::Boolean(flag) => Value::Boolean(flag),
            toml::Value::Datetime(datetime) => Value::Datetime(datetime),
            toml::Value::Array(items) => {
                let items = items.into_iter();
                Value::Array(items.map(|item| Node::new(place.clone(), item)).collect())
            }
            toml::Value::Table(table) => {
                let entry = |(name, value)| {
                    let key = Key {
                        name,
                        place: place.clone(),
                    };
                    (key, Node::new(place.clone(), value))
                };
                Value::Table(table.into_iter().map(entry).collect())
            }
        };
        Node { place, value }
    }

    /// A text of a variable or a flag.
    pub(super) fn text(place: Place, text: String) -> Self {
        Node {
            place,
            value: Value::Text(text),
        }
    }

    pub(super) fn empty_table(place: Place) -> Self {
        Node {
            place,
            value: Value::Table(Table::new()),
        }
    }

    /// The value at a path such as `timeouts.hosts[0].stall`.
    pub(super) fn find(&self, path: &str) -> Option<&Node> {
        if path.is_empty() {
            return Some(self);
        }
        if let Some(rest) = path.strip_prefix('[') {
            let (index, rest) = rest.split_once(']')?;
            let Value::Array(items) = &self.value else {
                return None;
            };
            let item = items.get(index.parse::<usize>().ok()?)?;
            return item.find(rest.strip_prefix('.').unwrap_or(rest));
        }
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (name, rest) = path.split_at(end);
        let Value::Table(table) = &self.value else {
            return None;
        };
        let (_, node) = table.iter().find(|(key, _)| key.name == name)?;
        node.find(rest.strip_prefix('.').unwrap_or(rest))
    }

    /// Puts a value at a dotted path, making tables on the way. What is no table on the way is replaced by one.
    pub(super) fn put(&mut self, path: &[&str], node: Node) {
        let [name, rest @ ..] = path else {
            *self = node;
            return;
        };
        if !matches!(self.value, Value::Table(_)) {
            self.value = Value::Table(Table::new());
        }
        let Value::Table(table) = &mut self.value else {
            return;
        };
        let position = match table.iter().position(|(key, _)| key.name == *name) {
            Some(position) => position,
            None => {
                let key = Key {
                    name: (*name).to_owned(),
                    place: node.place.clone(),
                };
                table.push((key, Node::empty_table(node.place.clone())));
                table.len() - 1
            }
        };
        table[position].1.put(rest, node);
    }

    /// The value at a path, or the innermost one around it: what a variable holds has no parts here.
    pub(super) fn find_nearest(&self, path: &str) -> &Node {
        let mut path = path;
        loop {
            match self.find(path) {
                Some(node) => return node,
                None => path = path.rfind(['.', '[']).map_or("", |end| &path[..end]),
            }
        }
    }

    /// Says that all of it was written there.
    pub(super) fn set_place(&mut self, place: &Place) {
        self.place = place.clone();
        match &mut self.value {
            Value::Array(items) => items.iter_mut().for_each(|item| item.set_place(place)),
            Value::Table(table) => {
                for (key, node) in table {
                    key.place = place.clone();
                    node.set_place(place);
                }
            }
            _ => {}
        }
    }

    /// The value as TOML.
    pub(super) fn to_toml(&self) -> toml::Value {
        match &self.value {
            // As a variable or a flag gives it.
            Value::Text(text) => text
                .trim()
                .parse()
                .unwrap_or_else(|_| toml::Value::String(text.clone())),
            Value::String(text) => toml::Value::String(text.clone()),
            Value::Integer(number) => toml::Value::Integer(*number),
            Value::Float(number) => toml::Value::Float(*number),
            Value::Boolean(flag) => toml::Value::Boolean(*flag),
            Value::Datetime(datetime) => toml::Value::Datetime(*datetime),
            Value::Array(items) => items.iter().map(Node::to_toml).collect::<Vec<_>>().into(),
            Value::Table(table) => {
                let entries = table.iter();
                let entries = entries.map(|(key, node)| (key.name.clone(), node.to_toml()));
                toml::Value::Table(entries.collect())
            }
        }
    }

    pub(super) fn is_list_of_tables(&self) -> bool {
        matches!(&self.value, Value::Array(items) if is_list_of_tables(items))
    }

    /// Takes the value at a dotted path away.
    pub(super) fn remove(&mut self, path: &str) {
        let (table, name) = path.rsplit_once('.').unwrap_or(("", path));
        let table = match table {
            "" => Some(self),
            table => self.find_mut(table),
        };
        if let Some(Value::Table(table)) = table.map(|node| &mut node.value) {
            table.retain(|(key, _)| key.name != name);
        }
    }

    /// Adds the list at `path` to the end of the same list in `over`, so that [`merge`](Self::merge) keeps both.
    pub(super) fn append_list_to(&self, over: &mut Node, path: &str) {
        let Some(below) = self.find(path) else {
            return;
        };
        let below = match &below.value {
            Value::Array(items) => items.clone(),
            Value::Text(text) => listed(&below.place, text),
            // Not a list: whoever reads the settings says so.
            _ => vec![below.clone()],
        };
        if let Some(Value::Array(items)) = over.find_mut(path).map(|node| &mut node.value) {
            items.extend(below);
        }
    }

    /// The value at a dotted path.
    fn find_mut(&mut self, path: &str) -> Option<&mut Node> {
        path.split('.').try_fold(self, |node, name| {
            let Value::Table(table) = &mut node.value else {
                return None;
            };
            let found = table.iter_mut().find(|(key, _)| key.name == name);
            found.map(|(_, node)| node)
        })
    }

    /// Lays what `over` says over this: tables are merged, lists of tables are joined, anything else is replaced.
    pub(super) fn merge(&mut self, over: Node) {
        match (&mut self.value, over.value) {
            (Value::Table(below), Value::Table(above)) => {
                for (key, node) in above {
                    match below.iter_mut().find(|(known, _)| known.name == key.name) {
                        Some((_, known)) => known.merge(node),
                        None => below.push((key, node)),
                    }
                }
            }
            (Value::Array(below), Value::Array(above))
                if is_list_of_tables(below) && is_list_of_tables(&above) =>
            {
                below.extend(above);
            }
            (_, value) => {
                self.value = value;
                self.place = over.place;
            }
        }
    }
}

/// The values that a variable or a flag lists, separated by commas.
pub(super) fn listed(place: &Place, text: &str) -> Vec<Node> {
    let items = text.split(',').map(str::trim);
    let items = items.filter(|item| !item.is_empty());
    items
        .map(|item| Node::text(place.clone(), item.to_owned()))
        .collect()
}

fn is_list_of_tables(items: &[Node]) -> bool {
    let is_table = |node: &Node| matches!(node.value, Value::Table(_));
    !items.is_empty() && items.iter().all(is_table)
}

/// The errors in the order of the text. What follows an error in its line is mostly a consequence of it.
fn first_of_each_line(text: &str, mut errors: Vec<toml::de::Error>) -> Vec<toml::de::Error> {
    let start = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    let line = |error: &toml::de::Error| position(text, start(error)).0;
    errors.sort_by_key(start);
    errors.dedup_by_key(|error| line(error));
    errors
}

fn node(file: usize, value: Spanned<DeValue<'_>>) -> Result<Node, SyntaxError> {
    let place = Place::File(file, value.span());
    let value = match value.into_inner() {
        DeValue::String(text) => Ok(Value::String(text.into_owned())),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Integer)
            .map_err(|_| "this number is too large"),
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map(Value::Float)
            .map_err(|_| "this number is too large"),
        DeValue::Boolean(flag) => Ok(Value::Boolean(flag)),
        DeValue::Datetime(datetime) => Ok(Value::Datetime(datetime)),
        DeValue::Array(items) => {
            let items = items.into_iter().map(|item| node(file, item));
            Ok(Value::Array(items.collect::<Result<_, _>>()?))
        }
        DeValue::Table(entries) => Ok(Value::Table(table(file, entries)?)),
    };
    match value {
        Ok(value) => Ok(Node { place, value }),
        Err(message) => Err(SyntaxError {
            place,
            message: message.to_owned(),
        }),
    }
}

fn table(file: usize, entries: DeTable<'_>) -> Result<Table, SyntaxError> {
    let entry = |(key, value): (Spanned<DeString<'_>>, Spanned<DeValue<'_>>)| {
        let key = Key {
            place: Place::File(file, key.span()),
            name: key.into_inner().into_owned(),
        };
        Ok((key, node(file, value)?))
    };
    entries.into_iter().map(entry).collect()
}
