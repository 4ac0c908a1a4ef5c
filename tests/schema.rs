//! `proxy config schema`: the schema accepts what the proxy accepts, and refuses the mistakes that an editor can find.

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::Value;

use crate::support::Proxy;

/// The schema that the proxy prints with these flags before `config`.
fn printed(flags: &[&str]) -> Value {
    let exit = Proxy::bare().args(flags).args(["config", "schema"]).run();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    serde_json::from_str(&exit.stdout).expect("the schema is JSON")
}

fn validator(schema: &Value) -> Validator {
    jsonschema::draft202012::meta::validate(schema).expect("it is a schema");
    jsonschema::validator_for(schema).expect("it can be used")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Why the schema refuses the text, which is TOML.
fn refusals(schema: &Validator, text: &str) -> Vec<String> {
    let document: toml::Table = text.parse().expect("TOML");
    let document = serde_json::to_value(document).expect("JSON");
    schema
        .iter_errors(&document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// The default file with every setting that stands in a comment.
fn default_file() -> String {
    let text = fs::read_to_string(root().join("proxy.toml")).expect("the default file");
    let lines = text.lines().map(|line| {
        let setting = line
            .strip_prefix('#')
            .filter(|rest| !rest.starts_with([' ', ':']));
        format!("{}\n", setting.unwrap_or(line))
    });
    lines.collect()
}

#[test]
fn the_default_file_is_accepted() {
    let schema = validator(&printed(&[]));
    assert_eq!(refusals(&schema, &default_file()), [""; 0]);
}

#[test]
fn whatever_the_proxy_accepts_is_accepted() {
    let schema = validator(&printed(&[]));
    for text in [
        "hostname = \"[::1]\"",
        "hostname = \"fe80::1%eth0\"",
        "log_level = \" warn\"",
        "timeout = \"1h 30m\"",
        "timeout = \"250 ms\"",
        "timeout = \"0.5\"",
        "timeouts.stall = 0.001",
        "client_recvbuf_size = \"64kib\"",
        "dns = { servers = [\"9.9.9.9\", \"[::1]:5353\", \"::1\"], cache_ttl_max = 0 }",
        "interception = { include = [\"Example.com.\", \"*.a_b.example\", \"[2001:db8::1]\"] }",
        "web_server.pac.direct = [\"10.0.0.0/8\", \"<LOCAL>\", \"*\"]",
        "web_server.static_files.index = [\".hidden\", \"..x\", \"a\"]",
        "[[plugins]]\nlibrary = \"other.so\"\nconfig = { any = [\"thing\"] }",
    ] {
        assert_eq!(refusals(&schema, text), [""; 0], "{text}");
        let scratch = crate::support::Scratch::new();
        let file = scratch.write("proxy.toml", text);
        let exit = Proxy::bare().args(["config", "show"]).args([file]).run();
        assert_eq!(exit.code, Some(0), "{text}: {exit:?}");
    }
}

/// Mistakes in `broken` that the schema does not find: most are about files or several settings; in texts such as `9000h`,
/// it does not compute the value.
const BEYOND_A_SCHEMA: [&str; 24] = [
    "ca-that-does-not-exist",
    "ca-without-its-keys",
    "certificate-that-does-not-exist",
    "certificate-that-is-a-directory",
    "certificate-that-is-none",
    "certificate-without-a-key",
    "client-certificate-that-does-not-exist",
    "directory-that-does-not-exist",
    "duration-beyond-a-year",
    // JSON has one type of number: 9000.0 is an integer.
    "float-for-a-number",
    "include-of-a-file-that-does-not-exist",
    "nothing-to-serve",
    "pac-file-that-does-not-exist",
    "plugin-name-that-does-not-exist",
    "plugin-refuses-a-key",
    "plugin-refuses-a-rule",
    "plugin-refuses-a-secret",
    "plugin-refuses-a-value",
    "plugin-that-does-not-exist",
    "plugin-that-is-no-library",
    "plugin-twice",
    "problems-of-several-parts",
    "size-out-of-range",
    "trusted-certificates-that-are-none",
];

#[test]
fn every_mistake_in_a_value_is_refused() {
    let schema = validator(&printed(&[]));
    let entries = fs::read_dir(root().join("tests/broken")).expect("the directory");
    let mut accepted = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry").path();
        let is_toml = path
            .extension()
            .is_some_and(|extension| extension == "toml");
        // Editors report what is not TOML themselves.
        let text = fs::read_to_string(&path).unwrap_or_else(|_| "not UTF-8".to_owned());
        if !is_toml || text.parse::<toml::Table>().is_err() {
            continue;
        }
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if refusals(&schema, &text).is_empty() {
            accepted.push(name);
        }
    }
    accepted.sort();
    assert_eq!(accepted, BEYOND_A_SCHEMA);
}
