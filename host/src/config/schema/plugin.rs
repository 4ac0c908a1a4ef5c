//! The schemas of plugins, in the place where their settings are.

use serde_json::{Map, Value, json};

/// What a plugin says about its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginSchema {
    /// The file of the library, without a directory.
    pub library: String,
    /// The plugin's name in it.
    pub name: String,
    /// The JSON Schema of its table; `true`, which allows everything, if it has none.
    pub schema: Value,
}

/// Where the schemas of plugins are in that of the file.
const DEFINITIONS: &str = "$defs";

/// Adds to the schema of the file: `config` in an entry of `plugins` is checked by the schema of that plugin.
pub(super) fn add_to(schema: &mut Value, plugins: &[PluginSchema]) {
    let mut definitions = Map::new();
    let mut rules = Vec::new();
    for plugin in plugins.iter().filter(|plugin| plugin.schema.is_object()) {
        let key = plugin.key();
        let mut definition = plugin.schema.clone();
        remove_identity(&mut definition);
        let pointer = format!("#/{DEFINITIONS}/{key}");
        move_references(&mut definition, &pointer);
        let mut then = json!({"properties": {"config": {"$ref": pointer}}});
        if requires_keys(&plugin.schema) {
            then["required"] = json!(["config"]);
        }
        rules.push(json!({"if": plugin.condition(), "then": then}));
        definitions.insert(key, definition);
    }
    if rules.is_empty() {
        return;
    }
    if let Some(entry) = schema.pointer_mut("/properties/plugins/items") {
        entry["allOf"] = rules.into();
    }
    schema[DEFINITIONS] = definitions.into();
}

impl PluginSchema {
    /// Letters, digits, underscores and dots, so that it needs no escape in a pointer.
    fn key(&self) -> String {
        format!("{}.{}", identifier(stem(&self.library)), self.name)
    }

    /// When an entry is about this plugin: its library without a name, or with this name in one of the ways to write it.
    fn condition(&self) -> Value {
        let file = format!(
            r"(^|[/\\])(lib)?{}(\.so|\.dylib|\.dll)?",
            escaped(stem(&self.library))
        );
        let name = format!(
            "{}(Plugin)?",
            self.name.strip_suffix("Plugin").unwrap_or(&self.name)
        );
        json!({
            "required": ["library"],
            "anyOf": [
                {
                    "properties": {
                        "library": {"pattern": format!("{file}$")},
                        "name": {"pattern": format!("^{name}$")},
                    },
                },
                {"properties": {"library": {"pattern": format!("{file}:{name}$")}}},
            ],
        })
    }
}

fn stem(library: &str) -> &str {
    let stem = library.split('.').next().unwrap_or(library);
    stem.strip_prefix("lib").unwrap_or(stem)
}

fn identifier(text: &str) -> String {
    let other = |letter: char| !letter.is_ascii_alphanumeric();
    text.replace(other, "_")
}

/// The text as a pattern that matches it alone.
fn escaped(text: &str) -> String {
    let mut pattern = String::new();
    for letter in text.chars() {
        if letter.is_ascii_punctuation() && !"_-".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

fn requires_keys(schema: &Value) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|keys| !keys.is_empty())
}

/// In another schema, it is a part.
fn remove_identity(schema: &mut Value) {
    if let Value::Object(object) = schema {
        object.remove("$schema");
        object.remove("$id");
    }
}

/// References to parts of the schema itself: it now is at `pointer`.
fn move_references(schema: &mut Value, pointer: &str) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(target) if key == "$ref" && target.starts_with('#') => {
                        *target = format!("{pointer}{}", &target[1..]);
                    }
                    _ => move_references(value, pointer),
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| move_references(item, pointer)),
        _ => {}
    }
}
