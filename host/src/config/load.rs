//! Makes the [`Config`] of flags, environment and files.
//!
//! For each setting, the flag overrides the environment, the environment overrides the file, and the file overrides the
//! default. The resources in the settings (log file, pid file, plugins, port) are opened where they are used.

use std::env;
use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{Files, Node, Place, Value};
use super::error::{ConfigError, ConfigErrors, position};
use super::flags::NotText;
use super::settings::{
    DnsSettings, HostTimeoutsSettings, InterceptionSettings, LimitsSettings, Settings,
    TimeoutsSettings, TlsSettings,
};
use super::settings_reader::{self, Fault};
use super::value::{Bounded, ByteLen, Bytes, HeaderName, Seconds, SecondsOrZero};
use super::web_server::web_server;
use super::{
    ClientCertificate, CompatibilityConfig, Config, DnsConfig, Flags, HostPattern, HostTimeouts,
    InterceptionConfig, KeyPairFiles, Limits, LogConfig, Timeouts, TlsConfig, UpstreamTls,
    environment, include, plugins,
};
use crate::plain_file;

/// The lists to which flags add; the other settings are replaced by them.
const GROWING_LISTS: [&str; 2] = ["plugin_dirs", "tls.upstream.extra_ca_files"];

impl Config {
    /// Reads the environment and the file that the flags name, if they name one, and lays all three over the defaults.
    ///
    /// # Errors
    /// Everything that is wrong in any of them.
    pub fn load(flags: Flags) -> Result<Config, ConfigErrors> {
        Sources::read(&flags, env::vars_os())?.config(&flags)
    }
}

/// Settings that are given all or not at all, and their flags.
type Together = [(&'static str, &'static str)];

const LISTENER_KEY_PAIR: [(&str, &str); 2] = [
    ("tls.cert_file", "--cert-file"),
    ("tls.key_file", "--key-file"),
];

const CA_FILES: [(&str, &str); 3] = [
    ("interception.ca_cert_file", "--ca-cert-file"),
    ("interception.ca_key_file", "--ca-key-file"),
    ("interception.ca_signing_key_file", "--ca-signing-key-file"),
];

/// What was given, laid over one another, but not yet checked.
pub(super) struct Sources {
    files: Files,
    /// Everything, one source over the other.
    pub(super) document: Node,
    /// Everything that is wrong in any source, also in what another one overrides.
    errors: Vec<ConfigError>,
}

impl Sources {
    /// Reads the file that the flags name, if they name one.
    ///
    /// # Errors
    /// The file cannot be read. What is wrong in it is noted.
    pub(super) fn read(
        flags: &Flags,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigErrors> {
        let path = flags.config.as_deref();
        let path = path.filter(|path| !path.as_os_str().is_empty());
        let Some(path) = path else {
            return Ok(Self::merge(flags, variables, None));
        };
        let text = read(path)
            .map_err(|error| ConfigErrors::new(vec![ConfigError::unreadable(path, &error)]))?;
        Ok(Self::merge(flags, variables, Some((path, text))))
    }

    pub(super) fn merge(
        flags: &Flags,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        file: Option<(&Path, String)>,
    ) -> Self {
        let mut errors = Vec::new();
        let mut files = Files::default();
        let mut sources = match file {
            Some((path, text)) => include::read(&mut files, path, text, &mut errors),
            None => Vec::new(),
        };
        sources.push(environment::document(variables));
        let mut document = Node::empty_table(Place::Default);
        for source in sources {
            errors.extend(faults(&files, &source));
            lay(&mut document, source);
        }
        match flags.document() {
            Ok(mut given) => {
                errors.extend(faults(&files, &given));
                for list in GROWING_LISTS {
                    document.append_list_to(&mut given, list);
                }
                lay(&mut document, given);
            }
            Err(flags) => {
                let not_text =
                    |flag: NotText| ConfigError::of_flags(flag.0, "must be UTF-8".to_owned());
                errors.extend(flags.into_iter().map(not_text));
            }
        }
        Sources {
            files,
            document,
            errors,
        }
    }

    /// The settings, each in range.
    fn settings(&self) -> Result<Settings, ConfigErrors> {
        if !self.errors.is_empty() {
            return Err(ConfigErrors::new(self.errors.clone()));
        }
        let (settings, _) = settings_reader::read(&self.document);
        Ok(settings)
    }

    pub(super) fn config(&self, flags: &Flags) -> Result<Config, ConfigErrors> {
        let settings = self.settings()?;
        let mut errors: Vec<ConfigError> = [&LISTENER_KEY_PAIR[..], &CA_FILES[..]]
            .iter()
            .filter_map(|keys| self.incomplete(keys))
            .collect();
        let plugin_place = |index: usize| {
            let library = format!("plugins[{index}].library");
            self.place(&self.document.find_nearest(&library).place)
        };
        let plugins = plugins::entries(flags, &settings.plugins, plugin_place);
        let plugins = plugins
            .map_err(|error| errors.push(error))
            .unwrap_or_default();
        if !errors.is_empty() {
            return Err(ConfigErrors::new(errors));
        }
        let default = Config::default();
        let timeouts = timeouts(settings.timeout, &settings.timeouts);
        Ok(Config {
            plugins,
            basic_auth: settings.basic_auth,
            hostname: settings.hostname.map_or(default.hostname, |host| host.0),
            port: settings.port.map_or(default.port, |port| port.0 as u16),
            num_workers: settings
                .num_workers
                .and_then(|count| NonZeroUsize::new(count.0))
                .unwrap_or(default.num_workers),
            backlog: settings
                .backlog
                .map_or(default.backlog, |backlog| backlog.0 as u32),
            plugin_dirs: [settings.plugin_dirs, default.plugin_dirs].concat(),
            plugin_statistics: settings
                .plugin_statistics
                .unwrap_or(default.plugin_statistics),
            disable_headers: names(settings.disable_headers),
            timeouts,
            host_timeouts: host_timeouts(timeouts, settings.timeouts.hosts),
            limits: limits(
                settings.client_recvbuf_size,
                settings.server_recvbuf_size,
                &settings.limits,
            ),
            dns: dns(&settings.dns),
            compatibility: CompatibilityConfig {
                responses: settings.compatibility.responses,
                relaxed_hosts: settings.compatibility.relaxed_hosts,
            },
            tls: tls(settings.tls),
            interception: interception(settings.interception),
            disable_http_proxy: settings.disable_http_proxy,
            web_server: web_server(settings.web_server),
            via: settings.via.map_or(default.via, |via| via.0),
            log: LogConfig {
                level: settings.log_level.unwrap_or_default(),
                file: settings.log_file,
            },
            open_file_limit: settings.open_file_limit.map(|limit| limit.0 as u64),
            pid_file: settings.pid_file,
        })
    }

    /// Some of these are given, others are not.
    fn incomplete(&self, keys: &Together) -> Option<ConfigError> {
        let (given, missing): (Vec<_>, Vec<_>) = keys
            .iter()
            .partition(|(key, _)| self.document.find(key).is_some());
        let (key, _) = given.first()?;
        let place = &self.document.find(key)?.place;
        if missing.is_empty() {
            return None;
        }
        let name = |(key, flag): &(&str, &str)| match place {
            Place::Flag(_) => (*flag).to_owned(),
            _ => format!("{key} ({flag})"),
        };
        let missing: Vec<String> = missing.iter().map(name).collect();
        let missing = missing.join(" and ");
        let reason = format!("given without {missing}; give all of them, or none");
        Some(ConfigError::of_setting(&self.files, place, key, reason))
    }

    /// File and line, or the variable or flag.
    pub(super) fn place(&self, place: &Place) -> String {
        match place {
            Place::File(file, span) => {
                let Some(file) = self.files.get(*file) else {
                    return String::new();
                };
                let (line, _) = position(&file.text, span.start);
                format!("{}:{line}", file.path.display())
            }
            Place::Variable(name) => name.clone(),
            Place::Flag(flag) => (*flag).to_owned(),
            Place::Default => "default".to_owned(),
        }
    }
}

/// Everything that is wrong with the settings of a source, in the order of its text.
fn faults(files: &Files, source: &Node) -> Vec<ConfigError> {
    let (_, mut faults): (Settings, Vec<Fault>) = settings_reader::read(source);
    faults.sort_by_key(|fault| match &fault.place {
        Place::File(_, span) => span.start,
        _ => 0,
    });
    let errors = faults.into_iter().map(|fault| {
        let value = &source.find_nearest(&fault.path).value;
        let reason = match (&fault.place, value) {
            (Place::Variable(name), Value::Text(value)) => environment::reason(name, value, &fault),
            _ => fault.reason,
        };
        ConfigError::of_setting(files, &fault.place, &fault.path, reason)
    });
    errors.collect()
}

/// Lays one source over those before it.
fn lay(below: &mut Node, over: Node) {
    // In an upper source, the general key overrides the specific one of a lower one.
    if over.find("timeout").is_some() {
        below.remove("timeouts.idle");
    }
    below.merge(over);
}

fn tls(file: TlsSettings) -> TlsConfig {
    let (cert_file, key_file) = (file.cert_file, file.key_file);
    let client_certificates = file.upstream.client_certificates.into_iter();
    TlsConfig {
        listener: cert_file
            .zip(key_file)
            .map(|(cert_file, key_file)| KeyPairFiles {
                cert_file,
                key_file,
            }),
        upstream: UpstreamTls {
            extra_ca_files: file.upstream.extra_ca_files,
            client_certificates: client_certificates
                .map(|entry| ClientCertificate {
                    hosts: entry.hosts,
                    files: KeyPairFiles {
                        cert_file: entry.cert_file,
                        key_file: entry.key_file,
                    },
                })
                .collect(),
        },
        key_log: file.key_log,
    }
}

fn interception(file: InterceptionSettings) -> Option<InterceptionConfig> {
    let (Some(cert_file), Some(key_file), Some(signing_key_file)) = (
        file.ca_cert_file,
        file.ca_key_file,
        file.ca_signing_key_file,
    ) else {
        return None;
    };
    Some(InterceptionConfig {
        ca: KeyPairFiles {
            cert_file,
            key_file,
        },
        signing_key_file,
        cert_dir: file.ca_cert_dir.unwrap_or_else(default_cert_dir),
        include: match file.include {
            Some(include) => include,
            None => vec![HostPattern::all()],
        },
        exclude: file.exclude,
        insecure_hosts: file.insecure_hosts,
        allow_fronting: file.allow_fronting,
        rejected_for: file
            .rejected_for
            .map_or(Duration::from_secs(600), |seconds| seconds.0),
        cached_certificates: bounded(file.cached_certificates, 1024),
        unknown: file.unknown,
        relay_protocols: file
            .relay_protocols
            .into_iter()
            .map(|name| name.0)
            .collect(),
        kept_certificates: bounded(file.kept_certificates, 10_000),
        kept_certificates_len: file
            .kept_certificates_len
            .map_or(64 << 20, |len| len.0 as u64),
    })
}

/// `~/.proxy`, or `.proxy` in the working directory if there is no home directory.
fn default_cert_dir() -> PathBuf {
    env::home_dir().unwrap_or_default().join(".proxy")
}

/// The text of a file.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let content = plain_file::read_named(path)?;
    String::from_utf8(content).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let valid = String::from_utf8_lossy(&error.as_bytes()[..valid]);
        let (line, column) = position(&valid, valid.len());
        io::Error::other(format!("is not UTF-8 at line {line}, column {column}"))
    })
}

fn names(names: Vec<HeaderName>) -> Vec<String> {
    names.into_iter().map(|name| name.0).collect()
}

fn timeouts(general: Option<Seconds>, file: &TimeoutsSettings) -> Timeouts {
    let default = Timeouts::default();
    Timeouts {
        header_read: seconds(file.header_read, default.header_read),
        client_idle: seconds(file.idle.or(general), default.client_idle),
        stall: seconds(file.stall, default.stall),
        half_closed: seconds(file.half_closed, default.half_closed),
        connect: seconds(file.connect, default.connect),
        upstream_response: seconds(file.upstream_response, default.upstream_response),
        upstream_idle: seconds(file.upstream_idle, default.upstream_idle),
        tunnel_idle: seconds(file.tunnel_idle, default.tunnel_idle),
        plugin_hook: seconds(file.plugin_hook, default.plugin_hook),
        plugin_budget: seconds(file.plugin_budget, default.plugin_budget),
    }
}

fn host_timeouts(general: Timeouts, entries: Vec<HostTimeoutsSettings>) -> Vec<HostTimeouts> {
    let entries = entries.into_iter().map(|entry| HostTimeouts {
        timeouts: Timeouts {
            stall: seconds(entry.stall, general.stall),
            upstream_response: seconds(entry.upstream_response, general.upstream_response),
            upstream_idle: seconds(entry.upstream_idle, general.upstream_idle),
            tunnel_idle: seconds(entry.tunnel_idle, general.tunnel_idle),
            ..general
        },
        hosts: entry.hosts,
    });
    entries.collect()
}

fn seconds(given: Option<Seconds>, default: Duration) -> Duration {
    given.map_or(default, |seconds| seconds.0)
}

fn limits(client: Option<ByteLen>, server: Option<ByteLen>, file: &LimitsSettings) -> Limits {
    let default = Limits::default();
    Limits {
        max_head_len: bytes(file.max_head_len, default.max_head_len),
        max_fields: bounded(file.max_fields, default.max_fields),
        max_target_len: bytes(file.max_target_len, default.max_target_len),
        client_read_len: client.map_or(default.client_read_len, |len| len.0),
        server_read_len: server.map_or(default.server_read_len, |len| len.0),
        max_concurrent_streams: file
            .max_concurrent_streams
            .map_or(default.max_concurrent_streams, |number| number.0 as u32),
        max_connections: bounded(file.max_connections, default.max_connections),
        max_body_buffer: file
            .max_body_buffer
            .map_or(default.max_body_buffer, |len| len.0 as u64),
        max_buffer_total: file
            .max_buffer_total
            .map_or(default.max_buffer_total, |len| len.0 as u64)
            .max(
                file.max_body_buffer
                    .map_or(default.max_body_buffer, |len| len.0 as u64),
            ),
        upstream_idle_per_host: file.upstream_idle_per_host.map(|number| number.0),
        upstream_idle_total: file.upstream_idle_total.map(|number| number.0),
        upstream_idle_timeout: seconds(file.upstream_idle_timeout, default.upstream_idle_timeout),
    }
}

fn bytes<const MIN: usize, const MAX: usize>(
    given: Option<Bytes<MIN, MAX>>,
    default: usize,
) -> usize {
    given.map_or(default, |len| len.0)
}

fn bounded<const MIN: usize, const MAX: usize>(
    given: Option<Bounded<MIN, MAX>>,
    default: usize,
) -> usize {
    given.map_or(default, |number| number.0)
}

fn dns(file: &DnsSettings) -> DnsConfig {
    let default = DnsConfig::default();
    let ttl = |given: Option<SecondsOrZero>, default| given.map_or(default, |seconds| seconds.0);
    DnsConfig {
        resolver: file.resolver.unwrap_or(default.resolver),
        servers: file.servers.iter().map(|server| server.0).collect(),
        cache_ttl_max: ttl(file.cache_ttl_max, default.cache_ttl_max),
        negative_ttl: ttl(file.negative_ttl, default.negative_ttl),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{LogLevel, Resolver};
    use clap::{CommandFactory, Parser};

    fn load(args: &[&str], text: &str) -> Result<Config, String> {
        load_with(args, &[], text)
    }

    fn load_with(args: &[&str], variables: &[(&str, &str)], text: &str) -> Result<Config, String> {
        let flags = Flags::try_parse_from([&["proxy"], args].concat())
            .map_err(|error| error.to_string())?;
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
        let default = format!("{:?}", Config::default());
        assert_eq!(format!("{:?}", load(&[], &shown).unwrap()), default);
        assert_eq!(format!("{:?}", load(&[], "").unwrap()), default);
    }

    /// The default file with every setting that stands in a comment.
    fn uncommented() -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proxy.toml");
        let shown = fs::read_to_string(path).unwrap();
        let lines = shown.lines().map(|line| {
            let setting = line.strip_prefix("#");
            let setting = setting.filter(|rest| !rest.starts_with(' '));
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
                Some(toml::Value::Table(inner)) => Some((inner, format!("[{full}]"))),
                Some(toml::Value::Array(list)) => {
                    let first = list.first().and_then(toml::Value::as_table);
                    first.map(|inner| (inner, format!("[[{full}]]")))
                }
                Some(_) => None,
            };
            if let Some((inner, header)) = inner {
                missing.extend(self::missing(inner, &format!("{full}."), &header));
            }
        }
        missing
    }

    #[test]
    fn the_default_file_has_every_setting() {
        let table: toml::Table = uncommented().parse().unwrap();
        assert_eq!(missing(&table, "", ""), [""; 0]);
    }

    #[test]
    fn every_flag_has_an_effect() {
        let command = Flags::command();
        for flag in command.get_arguments() {
            let name = flag.get_long().expect("flags have long names");
            // One changes nothing, and the other is about this file itself.
            if ["threadless", "config"].contains(&name) {
                continue;
            }
            let value = match flag.get_value_names().unwrap_or_default() {
                _ if !flag.get_action().takes_values() => "",
                [value] => match value.as_str() {
                    "ADDRESS" | "DIR" | "FILE" | "FILE|TEXT" | "NAME,..." => "=some",
                    "BYTES" | "N" | "PORT" | "SECONDS" => "=77",
                    "LEVEL" => "=error",
                    "LIBRARY:NAME,..." => "=lib.so:Name",
                    "NAME.KEY=VALUE" => "=Name.key=1",
                    "PATH" => "=/some",
                    "USER:PASSWORD" => "=user:password",
                    other => panic!("--{name}: what is a value for {other}?"),
                },
                names => panic!("--{name} takes {names:?}"),
            };
            // Some say more of what has to be turned on.
            let text = match name {
                "ca-cert-dir" => {
                    "[interception]\nca_cert_file = \"c\"\nca_key_file = \"k\"\nca_signing_key_file = \"s\""
                }
                "static-server-dir" => "[web_server.static_files]\nenable = true",
                "pac-file-url-path" => "[web_server.pac]\nfile = \"some\"",
                _ => "",
            };
            let flag = format!("--{name}{value}");
            assert_ne!(loaded(&[&flag], text), loaded(&[], text), "{flag}");
        }
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
        let text = "hostname = \"::\"\nport = 1\nlog_level = \"debug\"\nvia = \"edge\"\nbasic_auth = \"a:b\"";
        let config = load(&["--port", "2", "--basic-auth", "c:d"], text).unwrap();
        assert_eq!((config.hostname.as_str(), config.port), ("::", 2));
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
        assert!(wrong.starts_with(
            "proxy.toml:2:16: web_server.pac.direct[1]: is not a host pattern; write "
        ));
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
        let text = "port = 1\nbacklog = 7\nvia = \"edge\"\ndisable_headers = [\"x\"]\n[timeouts]\nstall = 9";
        let config = load_with(&["--port", "3"], &variables, text).unwrap();
        assert_eq!((config.port, config.backlog), (3, 7));
        assert_eq!((&*config.hostname, &*config.via), ("::1", "123"));
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
}
