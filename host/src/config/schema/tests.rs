//! The schema describes all settings, and agrees with what is read.

use super::*;

fn property<'s>(schema: &'s Value, path: &str) -> &'s Value {
    path.split('.')
        .fold(schema, |schema, key| match schema.get("items") {
            Some(items) => &items["properties"][key],
            None => &schema["properties"][key],
        })
}

#[test]
fn every_setting_is_described() {
    fn undescribed(schema: &Value, path: &str, found: &mut Vec<String>) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return;
        };
        for (key, property) in properties {
            let path = format!("{path}{key}");
            let is_table = property.get("properties").is_some();
            if !is_table && property.get("description").is_none() {
                found.push(path.clone());
            }
            undescribed(property, &format!("{path}."), found);
        }
    }
    let mut found = Vec::new();
    undescribed(&schema(&[]), "", &mut found);
    assert!(found.is_empty(), "no comment in proxy.toml above {found:?}");
}

#[test]
fn a_setting_has_the_default_and_the_comment_of_the_default_file() {
    let schema = schema(&[]);
    for (path, default, comment) in [
        ("port", json!(8899), "Address and TCP port"),
        (
            "client_recvbuf_size",
            json!("1M"),
            "Maximum number of bytes",
        ),
        ("limits.max_fields", json!(256), "Maximum number of header"),
        ("dns.resolver", json!("dns"), "\"dns\" uses the hosts file"),
        ("interception.include", json!(["*"]), "Hosts to intercept"),
    ] {
        let property = property(&schema, path);
        assert_eq!(property["default"], default, "{path}");
        let text = property["description"].as_str().unwrap_or_default();
        assert!(text.starts_with(comment), "{path}: {text}");
    }
    assert_eq!(property(&schema, "pid_file").get("default"), None);
}

#[test]
fn values_have_types_and_ranges() {
    let schema = schema(&[]);
    let port = property(&schema, "port");
    assert_eq!(
        (&port["minimum"], &port["maximum"]),
        (&json!(0), &json!(65_535))
    );
    let stall = property(&schema, "timeouts.hosts.stall");
    assert_eq!(stall["type"], json!(["number", "string"]));
    let credential = property(&schema, "basic_auth");
    assert_eq!(credential["writeOnly"], json!(true));
    assert_eq!(property(&schema, "log_file")["type"], json!("string"));
    assert!(!schema.to_string().contains("null"));
}

#[test]
fn references_of_a_plugin_lead_to_its_own_definitions() {
    let plugin = PluginSchema {
        library: "libtwo.words.so".to_owned(),
        name: "OnePlugin".to_owned(),
        schema: json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "required": ["a"],
            "properties": {"a": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"type": "string"}},
        }),
    };
    let schema = schema(&[plugin]);
    let definition = &schema["$defs"]["two.OnePlugin"];
    assert_eq!(
        definition["properties"]["a"]["$ref"],
        "#/$defs/two.OnePlugin/$defs/a"
    );
    assert_eq!(definition.get("$schema"), None);
    let rule = &property(&schema, "plugins")["items"]["allOf"][0];
    assert_eq!(rule["then"]["required"], json!(["config"]));
    assert_eq!(
        rule["then"]["properties"]["config"]["$ref"],
        "#/$defs/two.OnePlugin"
    );
}

#[test]
fn plugins_without_a_schema_add_nothing() {
    let plugin = PluginSchema {
        library: "libx.so".to_owned(),
        name: "X".to_owned(),
        schema: json!(true),
    };
    assert_eq!(schema(&[plugin]), schema(&[]));
}
