//! Builds the [`Config`] from flags and file.
//!
//! For each setting, the flag overrides the file, and the file overrides the default. There are no other sources. The
//! resources in the settings (log file, pid file, plugins, port) are opened where they are used.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Flags;
use super::file::{
    FileConfig, FileDns, FileError, FileHostTimeouts, FileInterception, FileLimits, FileTimeouts,
    FileTls,
};
use super::value::{Bounded, ByteLen, HeaderName, Seconds, SecondsOrZero};
use super::web_server::web_server;
use super::{
    BasicAuth, BasicAuthError, ClientCertificate, CompatibilityConfig, Config, DnsConfig,
    HostPattern, HostTimeouts, InterceptionConfig, KeyPairFiles, Limits, LogConfig, Timeouts,
    TlsConfig, UpstreamTls, plugins,
};
use crate::plain_file;

/// Why there is no configuration. Each is one line that says where the mistake is.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config` cannot be read.
    #[error("{}: {source}; specify a readable file with --config", .path.display())]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file contains a mistake.
    #[error("{}:{error}", .path.display())]
    File {
        /// As given.
        path: PathBuf,
        /// The mistake, and where it is.
        error: FileError,
    },
    /// `--basic-auth`, or the environment variable, is not a credential.
    #[error("--basic-auth (or PROXY_BASIC_AUTH): {0}")]
    BasicAuth(BasicAuthError),
    /// Some of several settings that require each other are missing.
    #[error("{given} given without {missing}; give all of them, as flags or in the file, or none")]
    Incomplete {
        /// Those that are set, as flags or in the file.
        given: String,
        /// Those that are missing.
        missing: String,
    },
    /// A `--plugin-config` cannot be applied.
    #[error("--plugin-config {setting}: {reason}")]
    PluginConfig {
        /// As given, up to the `=`.
        setting: String,
        /// What is wrong, or what to write instead.
        reason: String,
    },
}

impl ConfigError {
    /// Whether the command line is wrong, rather than the file.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            ConfigError::BasicAuth(_)
                | ConfigError::PluginConfig { .. }
                | ConfigError::Incomplete { .. }
        )
    }
}

impl Config {
    /// Reads the file that the flags name, if any, and merges it with the flags and the defaults.
    ///
    /// # Errors
    /// The file cannot be read or is invalid, or flags do not fit together.
    pub fn load(flags: Flags) -> Result<Config, ConfigError> {
        match flags
            .config
            .clone()
            .filter(|path| !path.as_os_str().is_empty())
        {
            Some(path) => {
                let text = read(&path)?;
                Config::merge(flags, &path, &text)
            }
            None => Config::merge(flags, Path::new(""), ""),
        }
    }

    fn merge(mut flags: Flags, path: &Path, text: &str) -> Result<Config, ConfigError> {
        let file = FileConfig::parse(text).map_err(|error| ConfigError::File {
            path: path.to_owned(),
            error,
        })?;
        let default = Config::default();
        let num_workers = flags.num_workers.or(file.num_workers);
        let web_server = web_server(&mut flags, file.web_server);
        let timeouts = timeouts(flags.timeout, file.timeout, &file.timeouts);
        Ok(Config {
            plugins: plugins::entries(&flags, &file.plugins, path, text)?,
            basic_auth: basic_auth(flags.basic_auth.as_deref())?.or(file.basic_auth),
            hostname: flags
                .hostname
                .or(file.hostname)
                .map_or(default.hostname, |host| host.0),
            port: flags
                .port
                .or(file.port)
                .map_or(default.port, |port| port.0 as u16),
            num_workers: num_workers
                .and_then(|count| NonZeroUsize::new(count.0))
                .unwrap_or(default.num_workers),
            backlog: flags
                .backlog
                .or(file.backlog)
                .map_or(default.backlog, |backlog| backlog.0 as u32),
            plugin_dirs: [flags.plugin_dir, file.plugin_dirs, default.plugin_dirs].concat(),
            plugin_statistics: file.plugin_statistics.unwrap_or(default.plugin_statistics),
            disable_headers: names(flags.disable_headers.into_iter().flat_map(|names| names.0))
                .unwrap_or_else(|| names(file.disable_headers).unwrap_or_default()),
            timeouts,
            host_timeouts: host_timeouts(timeouts, file.timeouts.hosts),
            limits: limits(
                flags.client_recvbuf_size.or(file.client_recvbuf_size),
                flags.server_recvbuf_size.or(file.server_recvbuf_size),
                &file.limits,
            ),
            dns: dns(&file.dns),
            compatibility: CompatibilityConfig {
                responses: file.compatibility.responses,
                relaxed_hosts: file.compatibility.relaxed_hosts,
            },
            tls: tls(
                flags.ca_file,
                flags.cert_file.or(file.tls.cert_file.clone()),
                flags.key_file.or(file.tls.key_file.clone()),
                file.tls,
            )?,
            interception: interception(FileInterception {
                ca_cert_file: flags.ca_cert_file.or(file.interception.ca_cert_file),
                ca_key_file: flags.ca_key_file.or(file.interception.ca_key_file),
                ca_signing_key_file: flags
                    .ca_signing_key_file
                    .or(file.interception.ca_signing_key_file),
                ca_cert_dir: flags.ca_cert_dir.or(file.interception.ca_cert_dir),
                ..file.interception
            })?,
            disable_http_proxy: flags.disable_http_proxy || file.disable_http_proxy,
            web_server,
            via: file.via.map_or(default.via, |via| via.0),
            log: LogConfig {
                level: flags.log_level.or(file.log_level).unwrap_or_default(),
                file: flags.log_file.or(file.log_file),
            },
            open_file_limit: flags
                .open_file_limit
                .or(file.open_file_limit)
                .map(|limit| limit.0 as u64),
            pid_file: flags.pid_file.or(file.pid_file),
        })
    }
}

fn tls(
    ca_files: Vec<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    file: FileTls,
) -> Result<TlsConfig, ConfigError> {
    complete(&[("--cert-file", &cert_file), ("--key-file", &key_file)])?;
    let client_certificates = file.upstream.client_certificates.into_iter();
    Ok(TlsConfig {
        listener: cert_file
            .zip(key_file)
            .map(|(cert_file, key_file)| KeyPairFiles {
                cert_file,
                key_file,
            }),
        upstream: UpstreamTls {
            extra_ca_files: [ca_files, file.upstream.extra_ca_files].concat(),
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
    })
}

fn interception(file: FileInterception) -> Result<Option<InterceptionConfig>, ConfigError> {
    complete(&[
        ("--ca-cert-file", &file.ca_cert_file),
        ("--ca-key-file", &file.ca_key_file),
        ("--ca-signing-key-file", &file.ca_signing_key_file),
    ])?;
    let (Some(cert_file), Some(key_file), Some(signing_key_file)) = (
        file.ca_cert_file,
        file.ca_key_file,
        file.ca_signing_key_file,
    ) else {
        return Ok(None);
    };
    Ok(Some(InterceptionConfig {
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
    }))
}

/// `~/.proxy`, or `.proxy` in the working directory if there is no home directory.
fn default_cert_dir() -> PathBuf {
    std::env::home_dir().unwrap_or_default().join(".proxy")
}

/// Requires all or none of the settings.
fn complete(settings: &[(&str, &Option<PathBuf>)]) -> Result<(), ConfigError> {
    let list = |is_given: bool| {
        let names = settings
            .iter()
            .filter(|(_, path)| path.is_some() == is_given);
        names
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(" and ")
    };
    let (given, missing) = (list(true), list(false));
    if given.is_empty() || missing.is_empty() {
        return Ok(());
    }
    Err(ConfigError::Incomplete { given, missing })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let text = plain_file::read_named(path)
        .and_then(|content| String::from_utf8(content).map_err(io::Error::other));
    text.map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// An empty credential is refused like any other without a colon: it is more likely a lost secret than the wish for an
/// open proxy.
fn basic_auth(flag: Option<&str>) -> Result<Option<BasicAuth>, ConfigError> {
    flag.map(BasicAuth::new)
        .transpose()
        .map_err(ConfigError::BasicAuth)
}

/// The names, or `None` if there are none.
fn names(names: impl IntoIterator<Item = HeaderName>) -> Option<Vec<String>> {
    let names: Vec<String> = names.into_iter().map(|name| name.0).collect();
    (!names.is_empty()).then_some(names)
}

fn timeouts(flag: Option<Seconds>, general: Option<Seconds>, file: &FileTimeouts) -> Timeouts {
    let default = Timeouts::default();
    Timeouts {
        header_read: seconds(file.header_read, default.header_read),
        client_idle: seconds(flag.or(file.idle).or(general), default.client_idle),
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

fn host_timeouts(general: Timeouts, entries: Vec<FileHostTimeouts>) -> Vec<HostTimeouts> {
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

fn limits(client: Option<ByteLen>, server: Option<ByteLen>, file: &FileLimits) -> Limits {
    let default = Limits::default();
    Limits {
        max_head_len: bounded(file.max_head_len, default.max_head_len),
        max_fields: bounded(file.max_fields, default.max_fields),
        max_target_len: bounded(file.max_target_len, default.max_target_len),
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

fn bounded<const MIN: usize, const MAX: usize>(
    given: Option<Bounded<MIN, MAX>>,
    default: usize,
) -> usize {
    given.map_or(default, |number| number.0)
}

fn dns(file: &FileDns) -> DnsConfig {
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
        let flags = Flags::try_parse_from([&["proxy"], args].concat())
            .map_err(|error| error.to_string())?;
        Config::merge(flags, Path::new("proxy.toml"), text).map_err(|error| error.to_string())
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
        let text = format!("{header}\nno_such_key = 1\n");
        let error = FileConfig::parse(&text).unwrap_err().to_string();
        let (_, expected) = error.split_once("expected ").expect("a list of keys");
        expected
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
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
            assert_ne!(told(&[&flag], text), told(&[], text), "{flag}");
        }
    }

    /// The configuration, or why there is none.
    fn told(args: &[&str], text: &str) -> String {
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
        assert_eq!((config.via.as_str(), config.backlog), ("edge", 100));
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
            "proxy.toml:2:10: web_server.pac.direct[1]: is not a host pattern; write "
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
                "--basic-auth (or PROXY_BASIC_AUTH): has no colon; write user:password",
            ),
            (
                &["--basic-auth", "secret"],
                "",
                "--basic-auth (or PROXY_BASIC_AUTH): has no colon; write user:password",
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
                "/nonexistent/proxy.toml: No such file or directory (os error 2); specify a readable file with \
                 --config"
            )
        );
    }
}
