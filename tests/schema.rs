//! `proxy config schema`: the schema accepts what the proxy accepts, and refuses the mistakes that an editor can find.

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::Value;

use crate::support::{Proxy, plugin_directory};

/// The schema that the proxy prints with these flags before `config`.
fn printed(flags: &[&str]) -> Value {
    let exit = Proxy::bare().args(flags).args(["config", "schema"]).run();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    serde_json::from_str(&exit.stdout).expect("the schema is JSON")
}

/// The names of the bundled plugins' crates, which are those of their libraries.
fn bundled() -> Vec<String> {
    let entries = fs::read_dir(root().join("plugins")).expect("the plugins");
    let names = entries.map(|entry| entry.expect("an entry"));
    let names = names.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The schema with those of all bundled plugins in place.
fn with_plugins() -> Value {
    let libraries: Vec<String> = bundled()
        .iter()
        .map(|name| format!("lib{name}{}", std::env::consts::DLL_SUFFIX))
        .collect();
    let dir = plugin_directory().display().to_string();
    printed(&["--plugin-dir", &dir, "--plugins", &libraries.join(",")])
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

/// The blocks of TOML in a text of Markdown, or in the first comment of a source.
fn blocks_of_toml(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| match line.strip_prefix("//!") {
        Some(comment) => comment.strip_prefix(' ').unwrap_or(comment),
        None => line,
    });
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in lines {
        match (&mut block, line) {
            (None, "```toml") => block = Some(String::new()),
            (Some(_), "```") => blocks.extend(block.take()),
            (Some(block), line) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

/// What the documentation shows as configurations, with the file that shows it.
fn documented() -> Vec<(PathBuf, String)> {
    let mut files = vec![root().join("README.md"), root().join("plugins/README.md")];
    for name in bundled() {
        let crate_root = root().join("plugins").join(name);
        files.extend([crate_root.join("README.md"), crate_root.join("src/lib.rs")]);
    }
    let mut documented = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let blocks = blocks_of_toml(&text).into_iter();
        let configurations = blocks.filter(|block| block.contains("[[plugins]]"));
        documented.extend(configurations.map(|block| (file.clone(), block)));
    }
    for name in ["egress", "filter-by-host"] {
        let file = root().join("examples").join(name).join("proxy.toml");
        let text = fs::read_to_string(&file).expect("the example");
        documented.push((file, text));
    }
    documented
}

#[test]
fn every_documented_configuration_is_accepted() {
    let schema = validator(&with_plugins());
    let documented = documented();
    assert!(documented.len() > bundled().len(), "{}", documented.len());
    for (file, text) in documented {
        assert_eq!(
            refusals(&schema, &text),
            [""; 0],
            "{}\n{text}",
            file.display()
        );
    }
}

#[test]
fn every_bundled_plugin_has_a_schema() {
    let schema = with_plugins();
    let definitions = schema["$defs"].as_object().expect("definitions");
    for name in bundled() {
        let prefix = format!("{name}.");
        let found = definitions.keys().any(|key| key.starts_with(&prefix));
        assert!(found, "{name} is not among {:?}", definitions.keys());
    }
}

#[test]
fn the_shipped_schema_is_current() {
    let (path, schema) = (root().join("proxy.schema.json"), with_plugins());
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, format!("{schema:#}\n")).expect("the schema is written");
    }
    let text = fs::read_to_string(&path).unwrap_or_default();
    let shipped: Value = serde_json::from_str(&text).unwrap_or_default();
    let is_current = shipped == schema;
    assert!(
        is_current,
        "run this test with BLESS=1 to write proxy.schema.json, and review the change"
    );
    let default_file = fs::read_to_string(root().join("proxy.toml")).expect("the default file");
    assert!(default_file.starts_with("#:schema ./proxy.schema.json\n"));
}

#[test]
fn only_secrets_of_plugins_are_masked() {
    let scratch = crate::support::Scratch::new();
    let text = "[[plugins]]\nlibrary = \"libfilter_by_upstream_host.so\"\nconfig = { hosts = [\"a.example\"] }\n\
                [[plugins]]\nlibrary = \"libproxy_pool.so\"\n\
                config = { parents = [\"http://u:hunter2@p.example\"], policy = \"random\" }\n\
                [[plugins]]\nlibrary = \"libnothing.so\"\nconfig = { any = \"thing\" }\n";
    let file = scratch.write("proxy.toml", text);
    let dir = plugin_directory().display().to_string();
    let exit = Proxy::bare()
        .args(["--plugin-dir", &dir, "config", "show"])
        .args([file])
        .run();
    for line in [
        "config = { hosts = [\"a.example\"] }",
        "config = { parents = [\"********\"], policy = \"random\" }",
        "config = { any = \"********\" }",
    ] {
        assert!(exit.stdout.contains(line), "{line}\n{}", exit.stdout);
    }
}

#[test]
fn a_library_that_cannot_be_loaded_is_named() {
    let exit = Proxy::bare()
        .args(["--plugins", "./libnothing.so", "config", "schema"])
        .run();
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(78), ""));
    assert!(
        exit.stderr.contains("./libnothing.so: library not found"),
        "{exit:?}"
    );
}

/// Settings that plugins refuse, of which a schema can know: wrong types, unknown keys, numbers out of range.
const REFUSED: [(&str, &str); 24] = [
    ("cache_responses", "max_file = 0"),
    ("cloudflare_dns_resolver", "families = [\"ipv5\"]"),
    ("cloudflare_dns_resolver", "url = \"ftp://a.example\""),
    (
        "custom_dns_resolver",
        "hosts = { \"a.example\" = \"127.0.0.1\" }",
    ),
    ("egress_allowlist", "allow = [{ ports = [80] }]"),
    (
        "egress_allowlist",
        "allow = [{ host = \"a.example\", ports = [65536] }]",
    ),
    ("egress_allowlist", "queue = 0"),
    ("filter_by_client_ip", "status = 200"),
    ("filter_by_upstream_host", "hosts = [\"a b\"]"),
    ("filter_by_upstream_host", "host = []"),
    (
        "filter_by_url_regex",
        "rules = [{ regex = \"a\", status = 200 }]",
    ),
    ("man_in_the_middle", "body = 1"),
    (
        "mock_rest_api",
        "routes = { \"/\" = { status = 100, json = \"1\" } }",
    ),
    ("modify_chunk_response", "chunks = \"a\""),
    ("modify_post_data", "methods = [\"a b\"]"),
    ("modify_request_header", "set = [\"a: b\"]"),
    ("program_name", "max_wait_ms = 2001"),
    ("proxy_pool", "parents = [\"ftp://a.example\"]"),
    ("rate_limit", "per = \"user\""),
    ("record_har", "queue = 65537"),
    ("redirect_to_custom_server", "server = \"http://a.example\""),
    (
        "reverse_proxy",
        "routes = [{ path = \"/\", upstreams = [\"http://a.example\"], tries = 0 }]",
    ),
    ("shortlink", "unknown = \"drop\""),
    ("web_server_route", "any = 1"),
];

#[test]
fn settings_that_a_plugin_refuses_are_refused() {
    let schema = validator(&with_plugins());
    let dir = plugin_directory().display().to_string();
    for (library, config) in REFUSED {
        let text =
            format!("[[plugins]]\nlibrary = \"lib{library}.so\"\n[plugins.config]\n{config}\n");
        assert!(!refusals(&schema, &text).is_empty(), "{text}");
        let scratch = crate::support::Scratch::new();
        let file = scratch.write("proxy.toml", &text);
        let exit = Proxy::bare()
            .args(["--plugin-dir", &dir, "check"])
            .args([file])
            .run();
        assert_eq!(exit.code, Some(78), "{text}: {exit:?}");
        assert!(
            exit.stderr.contains("rejected its configuration"),
            "{exit:?}"
        );
    }
}

#[test]
fn a_plugin_is_recognised_however_it_is_written() {
    let schema = validator(&with_plugins());
    for entry in [
        "library = \"libfilter_by_upstream_host.so\"",
        "library = \"/opt/libfilter_by_upstream_host.so\"\nname = \"FilterByUpstreamHost\"",
        "library = \"filter_by_upstream_host\"\nname = \"FilterByUpstreamHostPlugin\"",
        "library = \"./libfilter_by_upstream_host.so:FilterByUpstreamHost\"",
    ] {
        let text = |config| format!("[[plugins]]\n{entry}\nconfig = {config}\n");
        assert_eq!(
            refusals(&schema, &text("{ hosts = [] }")),
            [""; 0],
            "{entry}"
        );
        assert_ne!(
            refusals(&schema, &text("{ hosts = 1 }")),
            [""; 0],
            "{entry}"
        );
    }
    let other =
        "[[plugins]]\nlibrary = \"other_filter_by_upstream_host.so\"\nconfig = { hosts = 1 }";
    assert_eq!(refusals(&schema, other), [""; 0]);
}

/// Mistakes in `broken` that the schema does not find: most are about files or several settings; in texts such as `9000h`,
/// it does not compute the value.
const BEYOND_A_SCHEMA: [&str; 29] = [
    "access-log-that-is-a-directory",
    "ca-that-does-not-exist",
    "ca-without-its-keys",
    "certificate-of-a-listener-that-does-not-exist",
    "certificate-that-does-not-exist",
    "certificate-that-is-a-directory",
    "certificate-that-is-none",
    "certificate-without-a-key",
    "client-certificate-that-does-not-exist",
    "control-socket-that-is-a-file",
    "directory-that-does-not-exist",
    "duration-beyond-a-year",
    "files-in-no-directory",
    // JSON has one type of number: 9000.0 is an integer.
    "float-for-a-number",
    "include-of-a-file-that-does-not-exist",
    "listener-with-a-plugin-that-is-not-configured",
    "listener-without-an-address",
    "listeners-at-one-address",
    "log-file-in-no-directory",
    "nothing-to-serve",
    "pac-file-that-does-not-exist",
    "pid-file-in-a-file",
    "plugin-name-that-does-not-exist",
    "plugin-that-does-not-exist",
    "plugin-that-is-no-library",
    "plugin-twice",
    "problems-of-several-parts",
    "size-out-of-range",
    "trusted-certificates-that-are-none",
];

#[test]
fn every_mistake_in_a_value_is_refused() {
    let schema = validator(&with_plugins());
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
