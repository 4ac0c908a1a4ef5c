//! JSON Schemas of settings, made from their types (feature `schema`).

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The JSON Schema (draft 2020-12) of a type of settings. It refers to no other schema, and allows no `null`, because TOML
/// has none.
pub fn schema_of<C: JsonSchema>() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let mut schema = generator.root_schema_for::<C>().to_value();
    remove_null(&mut schema);
    schema
}

/// TOML has no null: an optional key is left out.
fn remove_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(remove_null);
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = &types[..] {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if object.get("default") == Some(&Value::Null) {
                object.remove("default");
            }
            remove_null_choice(object);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_null),
        _ => {}
    }
}

/// A single other choice replaces the list of choices.
fn remove_null_choice(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else {
        return;
    };
    let len = choices.len();
    choices.retain(|choice| choice.get("type") != Some(&json!("null")));
    if let (true, [Value::Object(only)]) = (choices.len() < len, &choices[..]) {
        let only = only.clone();
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}
