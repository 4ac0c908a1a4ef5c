//! The JSON Schema of `proxy.toml` (draft 2020-12), for editors and other tools that check a file as it is written.
//!
//! Names and types are those that `settings` reads. Descriptions and defaults are those of the default file, `proxy.toml`,
//! so that an editor shows what that file says. The schemas of plugins come from their libraries; the caller passes them.
//! What depends on two settings, on other sources or on the machine is left to `proxy check`.

mod documentation;
mod plugin;
mod secrets;
mod values;

use plugin_api::schema::schema_of;
use serde_json::{Value, json};

use super::command::defaults;
use super::document;
use super::settings::Settings;
use documentation::Documentation;
pub use plugin::PluginSchema;
pub(super) use secrets::without_secrets;

/// The schema of the file, with those of these plugins in place.
pub fn schema(plugins: &[PluginSchema]) -> Value {
    let mut schema = schema_of::<Settings>();
    set(&mut schema, "title", json!("proxy.toml"));
    set(
        &mut schema,
        "description",
        json!("The configuration of the proxy."),
    );
    describe(&mut schema, "", &Documentation::of_default_file());
    set_defaults(&mut schema, &defaults().value);
    plugin::add_to(&mut schema, plugins);
    schema
}

fn set(schema: &mut Value, key: &str, value: Value) {
    if let Some(object) = schema.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// Adds what the default file says about each key of the table at `path`.
fn describe(schema: &mut Value, path: &str, documentation: &Documentation) {
    if let Some(text) = documentation.get(path) {
        set(schema, "description", json!(text));
    }
    let (properties, prefix) = match schema.get("items").is_some() {
        true => ("/items/properties", path.to_owned()),
        false => ("/properties", path.to_owned()),
    };
    let Some(Value::Object(properties)) = schema.pointer_mut(properties) else {
        return;
    };
    for (key, property) in properties {
        let path = match prefix.is_empty() {
            true => key.clone(),
            false => format!("{prefix}.{key}"),
        };
        describe(property, &path, documentation);
    }
}

fn set_defaults(schema: &mut Value, defaults: &document::Value) {
    let document::Value::Table(table) = defaults else {
        return;
    };
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    for (key, node) in table {
        let Some(property) = properties.get_mut(&key.name) else {
            continue;
        };
        match &node.value {
            document::Value::Table(_) => set_defaults(property, &node.value),
            _ => set(property, "default", json!(node.to_toml())),
        }
    }
}

#[cfg(test)]
mod tests;
