//! Which settings of plugins are secret.
//!
//! A schema marks a secret by `writeOnly`, which JSON Schema provides for it, or by `x-secret`. Strings that no schema
//! describes may be secret, too.

use serde_json::Value as Schema;
use toml::{Table, Value};

use super::PluginSchema;

/// How deep references of a schema are followed; one that refers to itself describes nothing.
const MAX_DEPTH: usize = 16;

/// The settings with `mask` in place of what may be secret for one of the plugins.
pub(in crate::config) fn without_secrets(
    config: Table,
    plugins: &[PluginSchema],
    mask: &str,
) -> Table {
    let masked = |(key, value): (String, Value)| {
        let shown = |plugin: &PluginSchema| {
            let root = Descriptions::of_root(&plugin.schema);
            root.of_key(&key).masked(value.clone(), mask)
        };
        let mut shown = plugins.iter().map(shown);
        let undescribed = || Descriptions::none().masked(value.clone(), mask);
        let first = shown.next().unwrap_or_else(undescribed);
        // What one of them shows may be a secret of another.
        let is_same = shown.all(|other| other == first);
        (key, if is_same { first } else { hidden(value, mask) })
    };
    config.into_iter().map(masked).collect()
}

/// The schemas that describe a value.
struct Descriptions<'s> {
    /// What references refer to.
    root: &'s Schema,
    all: Vec<&'s Schema>,
}

impl<'s> Descriptions<'s> {
    fn none() -> Self {
        Descriptions {
            root: &Schema::Null,
            all: Vec::new(),
        }
    }

    fn of_root(root: &'s Schema) -> Self {
        let none = Descriptions {
            root,
            all: Vec::new(),
        };
        none.with([root])
    }

    /// These schemas, and those of which they consist.
    fn with(&self, schemas: impl IntoIterator<Item = &'s Schema>) -> Self {
        let mut all = Vec::new();
        for schema in schemas {
            self.collect(schema, &mut all, 0);
        }
        Descriptions {
            root: self.root,
            all,
        }
    }

    fn collect(&self, schema: &'s Schema, all: &mut Vec<&'s Schema>, depth: usize) {
        if depth > MAX_DEPTH || !schema.is_object() {
            return;
        }
        all.push(schema);
        let target = schema.get("$ref").and_then(Schema::as_str);
        let target = target.and_then(|target| self.root.pointer(target.strip_prefix('#')?));
        let choices = ["anyOf", "oneOf", "allOf"];
        let choices = choices.iter().filter_map(|key| schema.get(key)?.as_array());
        for part in target.into_iter().chain(choices.flatten()) {
            self.collect(part, all, depth + 1);
        }
    }

    fn of_key(&self, key: &str) -> Self {
        let property = |schema: &&'s Schema| {
            let property = schema.get("properties").and_then(|keys| keys.get(key));
            property.or_else(|| schema.get("additionalProperties"))
        };
        self.with(self.all.iter().filter_map(property))
    }

    fn of_items(&self) -> Self {
        self.with(self.all.iter().filter_map(|schema| schema.get("items")))
    }

    fn has_secret(&self) -> bool {
        let is_marked = |schema: &&Schema, key| schema.get(key) == Some(&Schema::Bool(true));
        let mut all = self.all.iter();
        all.any(|schema| is_marked(schema, "writeOnly") || is_marked(schema, "x-secret"))
    }

    fn masked(&self, value: Value, mask: &str) -> Value {
        match value {
            value if self.has_secret() => hidden(value, mask),
            Value::String(_) if self.all.is_empty() => Value::from(mask),
            Value::Array(items) => {
                let described = self.of_items();
                let items = items.into_iter().map(|item| described.masked(item, mask));
                Value::Array(items.collect())
            }
            Value::Table(table) => {
                let masked = |(key, value): (String, Value)| {
                    let value = self.of_key(&key).masked(value, mask);
                    (key, value)
                };
                Value::Table(table.into_iter().map(masked).collect())
            }
            other => other,
        }
    }
}

/// Lists and tables keep their form.
fn hidden(value: Value, mask: &str) -> Value {
    match value {
        Value::Array(items) => {
            let items = items.into_iter().map(|item| hidden(item, mask));
            Value::Array(items.collect())
        }
        Value::Table(table) => {
            let entries = table.into_iter();
            Value::Table(
                entries
                    .map(|(key, value)| (key, hidden(value, mask)))
                    .collect(),
            )
        }
        _ => Value::from(mask),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(config: &str, schemas: &[Schema]) -> String {
        let plugins: Vec<PluginSchema> = schemas
            .iter()
            .map(|schema| PluginSchema {
                library: "libx.so".to_owned(),
                name: "X".to_owned(),
                schema: schema.clone(),
            })
            .collect();
        without_secrets(config.parse().unwrap(), &plugins, "*").to_string()
    }

    #[test]
    fn what_a_schema_describes_is_shown_unless_it_marks_it() {
        let schema = json!({
            "properties": {
                "hosts": {"items": {"type": "string"}},
                "token": {"type": "string", "writeOnly": true},
                "pin": {"type": "integer", "x-secret": true},
                "rules": {"items": {"$ref": "#/$defs/rule"}},
                "links": {"additionalProperties": {"type": "string"}},
                "parents": {"type": "array", "writeOnly": true},
            },
            "$defs": {"rule": {"anyOf": [
                {"type": "string"},
                {"properties": {"url": {"type": "string"}, "key": {"writeOnly": true}}},
            ]}},
        });
        let config = "hosts = ['a']\ntoken = 't'\npin = 1\nrules = ['r', {url = 'u', key = 'k', other = 'o'}]\n\
                      links = {g = 'l'}\nunknown = 'n'\nnumber = 5\nparents = ['p', 1]\n";
        assert_eq!(
            shown(config, &[schema]),
            "hosts = [\"a\"]\ntoken = \"*\"\npin = \"*\"\nrules = [\"r\", { url = \"u\", key = \"*\", other = \"*\" }]\n\
             unknown = \"*\"\nnumber = 5\nparents = [\"*\", \"*\"]\n\n[links]\ng = \"l\"\n"
        );
    }

    #[test]
    fn strings_without_a_schema_are_hidden() {
        let recursive = json!({"$ref": "#"});
        for schemas in [&[][..], &[json!(true)], &[json!({})], &[recursive]] {
            assert_eq!(
                shown("a = 'x'\nb = ['y', 1]", schemas),
                "a = \"*\"\nb = [\"*\", 1]\n"
            );
        }
    }

    #[test]
    fn what_is_secret_for_one_of_several_plugins_is_hidden() {
        let open = json!({"properties": {"a": {"type": "string"}}});
        let secret = json!({"properties": {"a": {"writeOnly": true}}});
        assert_eq!(
            shown("a = 'x'", &[open.clone(), open.clone()]),
            "a = \"x\"\n"
        );
        assert_eq!(shown("a = 'x'", &[open, secret]), "a = \"*\"\n");
    }
}
