//! Schemas of settings, compared with the types.

use crate::schema::schema_of;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{env, fs};

/// Checks that `schema` is the JSON Schema of the settings `C`, and that `C` accepts each default in it. `path` is the file
/// that contains the schema; with the environment variable `BLESS`, the file is written instead.
///
/// ```no_run
/// # use plugin_api::prelude::*;
/// # use plugin_api::{schemars, testing};
/// #[derive(Deserialize, schemars::JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Config {
///     /// The longest path that is allowed.
///     #[schemars(range(min = 1))]
///     limit: u32,
/// }
///
/// const SCHEMA: &str = "include_str!(\"../config.schema.json\")";
///
/// testing::check_schema::<Config>(SCHEMA, concat!(env!("CARGO_MANIFEST_DIR"), "/config.schema.json"));
/// ```
///
/// # Panics
/// If the schema is another one, or a default is refused.
pub fn check_schema<C: JsonSchema + DeserializeOwned>(schema: &str, path: &str) {
    let made = schema_of::<C>();
    if env::var_os("BLESS").is_some() {
        let written = fs::write(path, format!("{made:#}\n"));
        return written.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let shown: Value = serde_json::from_str(schema).unwrap_or_default();
    assert!(
        shown == made,
        "{path} is not the schema of these settings; run this test with BLESS=1 to write it, and review the change"
    );
    // What has to be given has no default.
    let required = made.get("required").and_then(Value::as_array);
    if required.is_none_or(Vec::is_empty) {
        let read = serde_json::from_value::<C>(defaults(&made));
        assert!(
            read.is_ok(),
            "a default of the schema is refused: {:?}",
            read.err()
        );
    }
}

fn defaults(schema: &Value) -> Value {
    let properties = schema.get("properties").and_then(Value::as_object);
    let defaults = properties.into_iter().flatten();
    let defaults = defaults.filter_map(|(key, property)| {
        let default = property.get("default")?;
        Some((key.clone(), default.clone()))
    });
    Value::Object(defaults.collect())
}
