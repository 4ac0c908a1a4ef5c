//! What flags, variables and files mean together, and how their errors read.

use std::fs;

use super::*;
use crate::config::command::defaults;
use crate::config::document::Value;
use crate::config::{LogLevel, Resolver};
use clap::{CommandFactory, Parser};

fn load(args: &[&str], text: &str) -> Result<Config, String> {
    load_with(args, &[], text)
}

fn load_with(args: &[&str], variables: &[(&str, &str)], text: &str) -> Result<Config, String> {
    let flags =
        Flags::try_parse_from([&["proxy"], args].concat()).map_err(|error| error.to_string())?;
    let variables = variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    let file = Some((Path::new("proxy.toml"), text.to_owned()));
    Sources::merge(&flags, variables, file)
        .config(&flags)
        .map_err(|error| error.to_string())
}

fn refusal(text: &str) -> String {
    load(&[], text).err().unwrap_or_default()
}

#[test]
fn the_default_file_equals_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proxy.toml");
    let shown = fs::read_to_string(path).unwrap();
    let sources = Sources::merge(&Flags::default(), [], Some((Path::new(""), shown)));
    let settings = sources.settings().unwrap();
    assert_eq!(
        format!("{settings:#?}"),
        format!("{:#?}", Settings::default())
    );
}

/// The default file with every setting that stands in a comment.
fn uncommented() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proxy.toml");
    let shown = fs::read_to_string(path).unwrap();
    let lines = shown.lines().map(|line| {
        let setting = line.strip_prefix("#");
        let setting = setting.filter(|rest| !rest.starts_with([' ', ':']));
        format!("{}\n", setting.unwrap_or(line))
    });
    lines.collect()
}

#[test]
fn every_commented_setting_of_the_default_file_is_valid() {
    let config = load(&[], &uncommented()).unwrap();
    assert!(config.basic_auth.is_some());
    assert_eq!(config.plugins.len(), 1);
}

/// The keys of the table that `header` begins, as an unknown one is answered with.
fn keys_of(header: &str) -> Vec<String> {
    let error = refusal(&format!("{header}\nno_such_key = 1\n"));
    let listed = error
        .lines()
        .find_map(|line| line.split_once("the keys here are "));
    let (_, keys) = listed.expect("a list of keys");
    let keys = keys.split('`').skip(1).step_by(2);
    keys.map(str::to_owned).collect()
}

/// Keys below `path` that `table` does not have.
fn missing(table: &toml::Table, path: &str, header: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for key in keys_of(header) {
        let full = format!("{path}{key}");
        let inner = match table.get(&key) {
            None => {
                missing.push(full);
                continue;
            }
            // Plugins' own.
            Some(_) if full == "plugins.config" => continue,
            Some(toml::Value::Table(inner)) => Some((inner.clone(), format!("[{full}]"))),
            Some(toml::Value::Array(list)) if list.iter().all(toml::Value::is_table) => {
                // Some keys exclude others: all tables together have them.
                let tables = list.iter().filter_map(toml::Value::as_table);
                let inner: toml::Table = tables.flat_map(toml::Table::clone).collect();
                (!inner.is_empty()).then(|| (inner, format!("[[{full}]]")))
            }
            Some(_) => None,
        };
        if let Some((inner, header)) = inner {
            missing.extend(self::missing(&inner, &format!("{full}."), &header));
        }
    }
    missing
}

#[test]
fn the_default_file_has_every_setting() {
    let table: toml::Table = uncommented().parse().unwrap();
    assert_eq!(missing(&table, "", ""), [""; 0]);
}

/// The flags of proxy.py that ask for nothing that can be set here, or for what is to come.
const WITHOUT_EFFECT: [&str; 11] = [
    "threadless",
    "threaded",
    "local-executor",
    "max-sendbuf-size",
    "work-klass",
    "openssl",
    "enable-conn-pool",
    "rewrite-host-header",
    "enable-events",
    "devtools-ws-path",
    "metrics-path",
];

#[test]
fn every_flag_has_an_effect() {
    let command = Flags::command();
    for flag in command.get_arguments() {
        let name = flag.get_long().expect("flags have long names");
        // About this file itself.
        if name == "config" || WITHOUT_EFFECT.contains(&name) {
            continue;
        }
        let value = sample(flag);
        // Some say more of what has to be turned on.
        let text = match name {
            "ca-cert-dir" | "data-dir" => {
                "[interception]\nca_cert_file = \"c\"\nca_key_file = \"k\"\nca_signing_key_file = \"s\""
            }
            "min-compression-length" | "static-server-dir" => {
                "[web_server.static_files]\nenable = true"
            }
            "pac-file-url-path" => "[web_server.pac]\nfile = \"some\"",
            _ => "",
        };
        let flag = format!("--{name}{value}");
        assert_ne!(loaded(&[&flag], text), loaded(&[], text), "{flag}");
    }
}

/// A value for the flag, behind an equals sign; empty for one that takes none.
fn sample(flag: &clap::Arg) -> &'static str {
    let name = flag.get_id();
    match flag.get_value_names().unwrap_or_default() {
        _ if !flag.get_action().takes_values() => "",
        [value] => match value.as_str() {
            "ADDRESS" | "DIR" | "FILE" | "FILE|TEXT" | "NAME,..." => "=some",
            "BYTES" | "N" | "PORT" | "SECONDS" => "=77",
            "FORMAT" => "=json",
            "LEVEL" => "=error",
            "LIBRARY:NAME,..." => "=lib.so:Name",
            "NAME.KEY=VALUE" => "=Name.key=1",
            "LIBRARY:NAME" => "=lib.so:Name",
            "PATH" => "=/some",
            "USER:PASSWORD" => "=user:password",
            other => panic!("{name}: what is a value for {other}?"),
        },
        names => panic!("{name} takes {names:?}"),
    }
}

#[test]
fn the_help_states_the_default_of_the_setting() {
    let command = Flags::command();
    let defaults = defaults();
    let mut compared = 0;
    for flag in command.get_arguments() {
        let name = flag.get_long().expect("flags have long names");
        // The last is one less than its setting.
        if WITHOUT_EFFECT.contains(&name) || name == "min-compression-length" {
            continue;
        }
        let given = format!("--{name}{}", sample(flag));
        let document = Flags::try_parse_from(["proxy", &given]).unwrap().document();
        let Some(path) = document.ok().and_then(|document| only_key(&document, "")) else {
            continue;
        };
        let default = match defaults.find(&path).map(Node::to_toml) {
            Some(toml::Value::String(text)) => text,
            Some(value @ toml::Value::Integer(_)) => value.to_string(),
            _ => continue,
        };
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        let (_, stated) = help.rsplit_once("Default: ").expect("a default");
        // Some are described, such as a directory that depends on the user.
        if !stated.contains(' ') && !default.is_empty() {
            assert_eq!(stated.trim_end_matches('.'), default, "--{name}");
            compared += 1;
        }
    }
    assert!(compared >= 7, "only {compared} defaults are compared");
}

/// The path of the only setting, if there is one.
fn only_key(node: &Node, path: &str) -> Option<String> {
    let Value::Table(table) = &node.value else {
        return Some(path.to_owned());
    };
    let [(key, inner)] = &table[..] else {
        return None;
    };
    let dot = if path.is_empty() { "" } else { "." };
    only_key(inner, &format!("{path}{dot}{}", key.name))
}

/// The configuration, or why there is none.
fn loaded(args: &[&str], text: &str) -> String {
    match load(args, text) {
        Ok(config) => format!("{config:?}"),
        Err(error) => error,
    }
}

#[test]
fn a_flag_overrides_the_file_and_the_file_overrides_the_default() {
    let text =
        "hostname = \"::\"\nport = 1\nlog_level = \"debug\"\nvia = \"edge\"\nbasic_auth = \"a:b\"";
    let config = load(&["--port", "2", "--basic-auth", "c:d"], text).unwrap();
    let first = config.listeners[0].endpoint.tcp();
    assert_eq!((first, config.listeners.len()), (Some(("::", 2)), 1));
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!((config.via.as_str(), config.backlog), ("edge", 4096));
    assert!(config.basic_auth.unwrap().matches(b"Basic Yzpk"));
}

#[test]
fn files_and_a_pac_file_enable_the_web_server() {
    let web_server = |args: &[&str], text| load(args, text).unwrap().web_server;
    assert!(!web_server(&[], "").is_enabled);
    assert!(web_server(&["--enable-web-server"], "").is_enabled);
    assert!(web_server(&[], "[web_server]\nenable = true").is_enabled);
    let files = web_server(&["--enable-static-server", "--static-server-dir", "x"], "");
    assert!(files.is_enabled && files.pac.is_none());
    assert_eq!(files.static_files.unwrap().dir, Some("x".into()));
    let pac = web_server(&["--pac-file", "a"], "[web_server.pac]\nurl_path = \"/p\"");
    assert!(pac.is_enabled && pac.static_files.is_none());
    assert_eq!(pac.pac.unwrap().url_path, "/p");
    let generated = web_server(
        &[],
        "[web_server.pac]\ndirect = [\"<local>\", \"10.0.0.0/8\"]",
    );
    assert!(!generated.is_enabled && generated.pac_direct.len() == 2);
    let wrong = load(&[], "[web_server.pac]\ndirect = [\"a\", \"a b\"]").unwrap_err();
    assert!(
        wrong.starts_with(
            "proxy.toml:2:16: web_server.pac.direct[1]: is not a host pattern; write "
        )
    );
    let path = load(&["--pac-file", "a", "--pac-file-url-path", "p"], "");
    assert!(path.unwrap_err().contains("is not a path"));
    let off = web_server(
        &["--enable-static-server"],
        "[web_server.static_files]\ncompress_from = 0",
    );
    assert_eq!(off.static_files.unwrap().compress_from, None);
}

#[test]
fn the_most_specific_idle_timeout_applies() {
    let idle = |args: &[&str], text| load(args, text).unwrap().timeouts.client_idle.as_secs();
    assert_eq!(idle(&[], ""), 10);
    assert_eq!(idle(&[], "timeout = 20"), 20);
    assert_eq!(idle(&[], "timeout = 20\n[timeouts]\nidle = 30"), 30);
    assert_eq!(
        idle(&["--timeout", "40"], "timeout = 20\n[timeouts]\nidle = 30"),
        40
    );
}

#[test]
fn hosts_inherit_the_general_timeouts() {
    let text = "[timeouts]\nstall = 7\ntunnel_idle = 8\n[[timeouts.hosts]]\n\
                hosts = [\".example.com\", \"10.0.0.1\"]\nupstream_idle = 3600\ntunnel_idle = 9\n\
                [[timeouts.hosts]]\nhosts = [\"*\"]\nupstream_response = 600";
    let config = load(&["--timeout", "3"], text).unwrap();
    let of = |host| {
        let mut entries = config.host_timeouts.iter();
        let timeouts = entries.find(|entry| entry.names(host)).unwrap().timeouts;
        let Timeouts {
            client_idle,
            stall,
            upstream_response,
            upstream_idle,
            tunnel_idle,
            ..
        } = timeouts;
        [
            client_idle,
            stall,
            upstream_response,
            upstream_idle,
            tunnel_idle,
        ]
        .map(|time| time.as_secs())
    };
    assert_eq!(of("www.example.com"), [3, 7, 60, 3600, 9]);
    assert_eq!(of("10.0.0.1"), [3, 7, 60, 3600, 9]);
    assert_eq!(of("example.org"), [3, 7, 600, 60, 8]);
}

#[test]
fn tables_of_the_file_are_applied() {
    let config = load(
        &["--disable-headers", "A, b", "--num-workers", "0"],
        "disable_headers = [\"x\"]\nnum_workers = 3\n\
         [timeouts]\nconnect = 0.25\n[limits]\nupstream_idle_per_host = 0\n\
         [dns]\nresolver = \"system\"\nservers = [\"9.9.9.9\"]\nnegative_ttl = 0",
    )
    .unwrap();
    assert_eq!(config.disable_headers, ["a", "b"]);
    assert_eq!(config.num_workers, Config::default().num_workers);
    assert_eq!(config.timeouts.connect, Duration::from_millis(250));
    assert_eq!(config.limits.upstream_idle_per_host, Some(0));
    assert_eq!(config.limits.upstream_idle_total, None);
    assert_eq!(config.dns.resolver, Resolver::System);
    assert_eq!(config.dns.servers, ["9.9.9.9:53".parse().unwrap()]);
    assert_eq!(config.dns.negative_ttl, Duration::ZERO);
}

#[test]
fn configured_directories_come_before_those_of_the_executable() {
    let dirs = load(&["--plugin-dir", "a"], "plugin_dirs = [\"b\"]")
        .unwrap()
        .plugin_dirs;
    assert_eq!(dirs[..2], [PathBuf::from("a"), PathBuf::from("b")]);
    assert_eq!(dirs[2..], Config::default().plugin_dirs);
}

#[test]
fn files_of_trusted_certificates_add_up() {
    let text = "[tls.upstream]\nextra_ca_files = [\"c\"]";
    let tls = load(&["--ca-file", "a", "--ca-file=b"], text).unwrap().tls;
    assert_eq!(
        tls.upstream.extra_ca_files,
        ["a", "b", "c"].map(PathBuf::from)
    );
}

#[test]
fn a_variable_wins_over_the_file_and_a_flag_over_the_variable() {
    let variables = [
        ("PROXY_PORT", "2"),
        ("PROXY_HOSTNAME", "::1"),
        ("PROXY_VIA", "123"),
        ("PROXY_BACKLOG", ""),
        ("PROXY_DISABLE_HEADERS", "A, b"),
        ("PROXY_TIMEOUTS__CONNECT", "250ms"),
        ("PROXY_LIMITS__MAX_BODY_BUFFER", "1M"),
        ("PROXY_WEB_SERVER__ENABLE", "true"),
        ("PROXY_DNS__RESOLVER", "system"),
        ("PROXY_DNS__SERVERS", "[\"9.9.9.9\", \"::1\"]"),
        ("PROXY_BASIC_AUTH", "a:b"),
    ];
    let text =
        "port = 1\nbacklog = 7\nvia = \"edge\"\ndisable_headers = [\"x\"]\n[timeouts]\nstall = 9";
    let config = load_with(&["--port", "3"], &variables, text).unwrap();
    assert_eq!(config.listeners[0].endpoint.tcp(), Some(("::1", 3)));
    assert_eq!((config.backlog, &*config.via), (7, "123"));
    assert_eq!(config.disable_headers, ["a", "b"]);
    assert_eq!(config.timeouts.connect, Duration::from_millis(250));
    assert_eq!(config.timeouts.stall, Duration::from_secs(9));
    assert_eq!(config.limits.max_body_buffer, 1 << 20);
    assert!(config.web_server.is_enabled);
    assert_eq!(config.dns.resolver, Resolver::System);
    assert_eq!(config.dns.servers.len(), 2);
    assert!(config.basic_auth.unwrap().matches(b"Basic YTpi"));
}

#[test]
fn plugins_may_be_listed_in_a_variable() {
    let variables = [("PROXY_PLUGINS", "[{library = \"a.so\", name = \"A\"}]")];
    let config = load_with(&[], &variables, "[[plugins]]\nlibrary = \"b.so\"").unwrap();
    assert_eq!(config.plugins.len(), 1);
    assert_eq!(config.plugins[0].spec, "a.so:A");
    assert_eq!(config.plugins[0].origin, "PROXY_PLUGINS");
}

#[test]
fn a_variable_in_error_is_named_unless_it_belongs_to_another_program() {
    let refusal = |name, value| load_with(&[], &[(name, value)], "").err();
    for (name, value, error) in [
        (
            "PROXY_PORT",
            "x",
            "PROXY_PORT: expected a whole number, found string",
        ),
        (
            "PROXY_PORT",
            "tcp://10.0.0.1:8899",
            "PROXY_PORT: expected a whole number, found string; Kubernetes sets this variable for a service named \
             `proxy`; set enableServiceLinks: false for the pod, or rename the service",
        ),
        (
            "PROXY_TIMEOUTS__IDEL",
            "1",
            "PROXY_TIMEOUTS__IDEL: unknown key `idel`; did you mean `idle`?",
        ),
        (
            "PROXY_TIMEOUTS__X",
            "1",
            "PROXY_TIMEOUTS__X: no setting has this name",
        ),
        (
            "PROXY_LOGGING__X",
            "1",
            "PROXY_LOGGING__X: no setting has this name",
        ),
        (
            "PROXY_PROT",
            "1",
            "PROXY_PROT: unknown key `prot`; did you mean `port`?",
        ),
        (
            "PROXY_BASIC_AUTH",
            "",
            "PROXY_BASIC_AUTH: has no colon; write user:password",
        ),
    ] {
        assert_eq!(refusal(name, value).as_deref(), Some(error), "{name}");
    }
    for name in ["PROXY_SERVICE_HOST", "PROXY_PORT_8899_TCP_ADDR"] {
        assert_eq!(refusal(name, "10.0.0.1"), None, "{name}");
    }
}

#[test]
fn all_errors_are_reported_in_their_order() {
    let text = "prot = 1\nhostname = \"a b\"\n[timeouts]\nidle = 0\nstall = \"5 apples\"\n\
                [[timeouts.hosts]]\nhosts = [\"a b\", \"ok\"]\n[limits]\nmax_fields = 0";
    let variables = [("PROXY_BACKLOG", "-1")];
    let errors = load_with(&["--basic-auth", "x"], &variables, text).unwrap_err();
    let places: Vec<&str> = errors
        .lines()
        .map(|line| line.split(": ").next().unwrap_or_default())
        .collect();
    assert_eq!(
        places,
        [
            "proxy.toml:1:1",
            "proxy.toml:2:12",
            "proxy.toml:4:8",
            "proxy.toml:5:9",
            "proxy.toml:7:10",
            "proxy.toml:9:14",
            "PROXY_BACKLOG",
            "--basic-auth",
        ]
    );
}

#[test]
fn errors_are_reported_of_what_is_overridden_as_well() {
    let error = load_with(&["--port", "1"], &[("PROXY_PORT", "2")], "port = \"many\"");
    assert!(error.unwrap_err().starts_with("proxy.toml:1:8: port: "));
    let error = load_with(&["--port", "1"], &[("PROXY_PORT", "x")], "");
    assert!(error.unwrap_err().starts_with("PROXY_PORT: "));
}

#[test]
fn all_errors_of_syntax_are_reported() {
    let errors = refusal("port = \nhostname = [\nvia = 'x'\n");
    assert!(errors.starts_with("proxy.toml:1:"), "{errors}");
    assert_eq!(errors.lines().count(), 2, "{errors}");
}

#[test]
fn an_error_has_line_column_key_and_reason() {
    for (text, error) in [
        ("port = 70000", "1:8: port: must be between 0 and 65535"),
        (
            "\nport = \"x\"",
            "2:8: port: expected a whole number, found string",
        ),
        (
            "[timeouts]\nidle = 0",
            "2:8: timeouts.idle: must be greater than 0 seconds",
        ),
        (
            "[timeouts]\nidle = -1.5",
            "2:8: timeouts.idle: must be greater than 0 seconds",
        ),
        (
            "[[timeouts.hosts]]\nhosts = [\"a.test\"]\nupstream_idle = 0",
            "3:17: timeouts.hosts[0].upstream_idle: must be greater than 0 seconds",
        ),
        (
            "[[timeouts.hosts]]\nhosts = [\"*\"]\nupstream_response = 31536001",
            "3:21: timeouts.hosts[0].upstream_response: must be at most 31536000 seconds",
        ),
        (
            "[[timeouts.hosts]]\nhosts = [\"a b\"]",
            "2:10: timeouts.hosts[0].hosts[0]: is not a host pattern; write example.com, .example.com, \
             *.example.com, an IP address or *",
        ),
        (
            "[[timeouts.hosts]]\nhosts = [\"a\"]\nidle = 1",
            "3:1: timeouts.hosts[0].idle: unknown key `idle`; the keys here are `hosts`, `stall`, `upstream_response`, `upstream_idle`, `tunnel_idle`",
        ),
        (
            "timeout = true",
            "1:11: timeout: expected a number of seconds, found boolean",
        ),
        (
            "[limits]\nmax_fields = 257",
            "2:14: limits.max_fields: must be between 1 and 256",
        ),
        (
            "client_recvbuf_size = \"many\"",
            "1:23: client_recvbuf_size: is not a number of bytes; write one such as 65536, 64K or 1M",
        ),
        (
            "disable_headers = [\"ok\", \"not ok\"]",
            "1:26: disable_headers[1]: `not ok` is not a header name",
        ),
        (
            "basic_auth = \"secret\"",
            "1:14: basic_auth: has no colon; write user:password",
        ),
        (
            "[[plugins]]\nname = \"X\"",
            "1:1: plugins[0]: missing key `library`",
        ),
        (
            "[dns]\nresolver = \"hosts\"",
            "2:12: dns.resolver: `hosts` is not possible; write \"dns\" or \"system\"",
        ),
        (
            "[dns]\n\"a.b\" = 1",
            "2:1: dns.a.b: unknown key `a.b`; the keys here are `resolver`, `servers`, `cache_ttl_max`, `negative_ttl`",
        ),
        (
            "[dns]\nserver = []",
            "2:1: dns.server: unknown key `server`; did you mean `servers`?",
        ),
    ] {
        assert_eq!(refusal(text), format!("proxy.toml:{error}"));
    }
}

#[test]
fn a_text_that_is_not_toml_is_located() {
    assert!(refusal("port = 1\nhostname = [").starts_with("proxy.toml:2:13: "));
    assert!(refusal("port = 1\nport = 2").starts_with("proxy.toml:2:1: "));
}

#[test]
fn misspelt_keys_are_not_ignored() {
    assert!(refusal("prot = 1").ends_with("prot: unknown key `prot`; did you mean `port`?"));
}

#[test]
fn errors_are_one_line_that_names_the_place() {
    for (args, text, error) in [
        (
            &[][..],
            "port = -1",
            "proxy.toml:1:8: port: must be between 0 and 65535",
        ),
        (
            &["--basic-auth", ""],
            "",
            "--basic-auth: has no colon; write user:password",
        ),
        (
            &["--basic-auth", "secret"],
            "",
            "--basic-auth: has no colon; write user:password",
        ),
    ] {
        assert_eq!(load(args, text).err().as_deref(), Some(error));
    }
    let flags = Flags {
        config: Some("/nonexistent/proxy.toml".into()),
        ..Flags::default()
    };
    assert_eq!(
        Config::load(flags)
            .err()
            .map(|error| error.to_string())
            .as_deref(),
        Some(
            "/nonexistent/proxy.toml: No such file or directory (os error 2); specify a readable text file \
             with --config"
        )
    );
}

/// The endpoints and kinds of the listeners.
fn listeners(args: &[&str], text: &str) -> Vec<String> {
    let config = load(args, text).unwrap();
    let listeners = config.listeners.into_iter();
    listeners
        .map(|listener| format!("{} {:?}", listener.endpoint, listener.kind))
        .collect()
}

#[test]
fn hostname_port_and_flags_describe_the_first_listener() {
    let further = "[[listeners]]\nport = 80\n[[listeners]]\npath = \"/s\"\n";
    assert_eq!(listeners(&[], ""), ["::1:8899 Http"]);
    assert_eq!(listeners(&[], further), ["::1:80 Http", "unix:/s Http"]);
    let with_port = format!("port = 1\n{further}");
    let all = ["::1:1 Http", "::1:80 Http", "unix:/s Http"];
    assert_eq!(listeners(&[], &with_port), all);
    let all = ["::1:2 Http", "::1:80 Http", "unix:/s Http"];
    assert_eq!(listeners(&["--port", "2"], &with_port), all);
    let all = [":::8899 Http", "::1:80 Http", "unix:/s Http"];
    assert_eq!(listeners(&["--hostname", "::"], further), all);
}

#[test]
fn the_certificate_of_the_first_listener_is_the_default_of_the_others() {
    let pairs = |text: &str| {
        let config = load(&[], text).unwrap();
        let listeners = config.listeners.into_iter();
        let file = |listener: ListenerConfig| {
            let files = listener.key_pair.map(|files| files.cert_file);
            files.map_or_else(String::new, |file| file.display().to_string())
        };
        listeners.map(file).collect::<Vec<_>>()
    };
    let general = "[tls]\ncert_file = \"a\"\nkey_file = \"b\"\n";
    let https = "[[listeners]]\nport = 1\nkind = \"https\"\n";
    let own = "[[listeners]]\nport = 2\ncert_file = \"c\"\nkey_file = \"d\"\n";
    let clear = "[[listeners]]\nport = 3\n";
    assert_eq!(pairs(general), ["a"]);
    assert_eq!(
        pairs(&format!("{general}{https}{own}{clear}")),
        ["a", "c", ""]
    );
    let all = format!("port = 9\n{general}{https}{own}{clear}");
    assert_eq!(pairs(&all), ["a", "a", "c", ""]);
    assert_eq!(
        refusal(&format!("{general}{own}")),
        "proxy.toml:2:13: tls.cert_file: no listener uses it; set kind = \"https\" in one of [[listeners]], or set port"
    );
    assert_eq!(
        refusal(https),
        "proxy.toml:3:8: listeners[0].kind: needs a certificate; set cert_file and key_file here or in [tls]"
    );
}

#[test]
fn listeners_that_cannot_exist_are_refused_with_both_places() {
    for (text, expected) in [
        (
            "port = 80\n[[listeners]]\nhostname = \"localhost\"\nport = 80",
            "proxy.toml:4:8: listeners[0].port: localhost:80 is already in use by the listener ::1:80 (hostname and \
             port); give one of them another port",
        ),
        (
            "[[listeners]]\nport = 80\n\n[[listeners]]\nhostname = \"::\"\nport = 80",
            "proxy.toml:6:8: listeners[1].port: :::80 is already in use by the listener ::1:80 (proxy.toml:1); give \
             one of them another port",
        ),
        (
            "[[listeners]]\npath = \"/s\"\n[[listeners]]\npath = \"/s\"",
            "proxy.toml:4:8: listeners[1].path: unix:/s is already in use by the listener unix:/s (proxy.toml:1); give \
             one of them another path",
        ),
        (
            "[[listeners]]\nname = \"a\"\nport = 1\n[[listeners]]\nname = \"a\"\nport = 2",
            "proxy.toml:5:8: listeners[1].name: `a` is already the name of another listener (proxy.toml:1); use \
             another name",
        ),
        (
            "[[listeners]]\nname = \"a\"",
            "proxy.toml:1:1: listeners[0]: says neither port nor path; set port for TCP, or path for a Unix socket",
        ),
        (
            "[[listeners]]\nhostname = \"::1\"",
            "proxy.toml:2:12: listeners[0].hostname: given without port; set port",
        ),
        (
            "[[listeners]]\npath = \"/s\"\nport = 1",
            "proxy.toml:2:8: listeners[0].path: is a Unix socket, which has neither hostname nor port; use a table in \
             [[listeners]] for each",
        ),
        (
            "[[listeners]]\nport = 1\nmode = \"0600\"",
            "proxy.toml:3:8: listeners[0].mode: is for Unix sockets; set path, or remove mode",
        ),
        (
            "[[listeners]]\nport = 1\ncert_file = \"a\"",
            "proxy.toml:3:13: listeners[0].cert_file: given without key_file; give both, or none",
        ),
        (
            "[[listeners]]\nport = 1\nkind = \"http\"\ncert_file = \"a\"\nkey_file = \"b\"",
            "proxy.toml:4:13: listeners[0].cert_file: a listener of the kind \"http\" has no certificate; remove \
             cert_file and key_file, or set kind = \"https\"",
        ),
        (
            "[[listeners]]\nport = 1\nkind = \"ftp\"",
            "proxy.toml:3:8: listeners[0].kind: `ftp` is not possible; write \"http\" or \"https\" or \"socks5\" or \
             \"http+socks5\"",
        ),
        (
            "[listeners]\nport = 1",
            "proxy.toml:1:1: listeners: expected an array, found table; in a list of tables, each begins with \
             [[listeners]]",
        ),
    ] {
        assert_eq!(refusal(text), expected, "{text}");
    }
}
