//! Makes the [`Config`] of flags, environment and files.
//!
//! For each setting, the flag overrides the environment, the environment overrides the file, and the file overrides the
//! default. The resources in the settings (log file, pid file, plugins, port) are opened where they are used.

use std::env;
use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::document::{Files, Node, Place};
use super::error::{ConfigError, ConfigErrors, position};
use super::flags::NotText;
use super::listeners::Listeners;
use super::settings::{
    AccessLogSettings, DnsSettings, HostTimeoutsSettings, InterceptionSettings, LimitsSettings,
    Settings, TimeoutsSettings, TlsSettings,
};
use super::settings_reader::{self, Fault};
use super::value::{ByteLen, HeaderName, Seconds};
use super::web_server::web_server;
use super::{
    AccessFormat, AccessLogConfig, ClientCertificate, CompatibilityConfig, Config,
    ControlSocketConfig, DnsConfig, Flags, HostTimeouts, InterceptionConfig, KeyPairFiles, Limits,
    ListenerConfig, LogConfig, LogFormat, Origins, PluginEntry, ServerConfig, Timeouts, TlsConfig,
    UpstreamTls, environment, include, plugins,
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

impl Default for Config {
    fn default() -> Self {
        let settings = Settings::default();
        let first = ListenerConfig::first(&settings.hostname, settings.port, None);
        config(settings, Vec::new(), vec![first], Arc::default())
    }
}

impl Default for DnsConfig {
    fn default() -> Self {
        dns(&DnsSettings::default())
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
    pub(super) origins: Arc<Origins>,
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
            origins: Arc::new(Origins { files, document }),
            errors,
        }
    }

    /// The settings, each in range.
    fn settings(&self) -> Result<Settings, ConfigErrors> {
        if !self.errors.is_empty() {
            return Err(ConfigErrors::new(self.errors.clone()));
        }
        let (settings, _) = settings_reader::read(&self.origins.document);
        Ok(settings)
    }

    pub(super) fn config(&self, flags: &Flags) -> Result<Config, ConfigErrors> {
        let settings = self.settings()?;
        let mut errors: Vec<ConfigError> = [&LISTENER_KEY_PAIR[..], &CA_FILES[..]]
            .iter()
            .filter_map(|keys| self.incomplete(keys))
            .collect();
        let document = &self.origins.document;
        let plugin_place = |index: usize| {
            let library = format!("plugins[{index}].library");
            self.place(&document.find_nearest(&library).place)
        };
        let plugins = plugins::entries(flags, &settings.plugins, plugin_place);
        let plugins = plugins
            .map_err(|error| errors.push(error))
            .unwrap_or_default();
        let listeners = Listeners {
            hostname: &settings.hostname,
            port: settings.port,
            has_first: ["hostname", "port"]
                .iter()
                .any(|key| self.origins.document.find(key).is_some()),
            key_pair: listener_key_pair(&settings.tls),
            further: &settings.listeners,
        };
        let listeners = self.listeners(listeners);
        let listeners = listeners
            .map_err(|faults| errors.extend(faults))
            .unwrap_or_default();
        if !errors.is_empty() {
            return Err(ConfigErrors::new(errors));
        }
        Ok(config(
            settings,
            plugins,
            listeners,
            Arc::clone(&self.origins),
        ))
    }

    fn listeners(&self, listeners: Listeners<'_>) -> Result<Vec<ListenerConfig>, Vec<ConfigError>> {
        let origin = |index: usize| {
            let table = format!("listeners[{index}]");
            self.place(&self.origins.document.find_nearest(&table).place)
        };
        listeners.checked(origin).map_err(|faults| {
            let errors = faults.into_iter().map(|fault| {
                let key = fault.key.trim_end_matches('.');
                self.origins.of_setting(key, fault.reason)
            });
            errors.collect()
        })
    }

    /// Some of these are given, others are not.
    fn incomplete(&self, keys: &Together) -> Option<ConfigError> {
        let (given, missing): (Vec<_>, Vec<_>) = keys
            .iter()
            .partition(|(key, _)| self.origins.document.find(key).is_some());
        let (key, _) = given.first()?;
        let place = &self.origins.document.find(key)?.place;
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
        Some(self.origins.of_setting(key, reason))
    }

    /// File and line, or the variable or flag.
    pub(super) fn place(&self, place: &Place) -> String {
        match place {
            Place::File(file, span) => {
                let Some(file) = self.origins.files.get(*file) else {
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
        let reason = match &fault.place {
            Place::Variable(name) => environment::reason(name, value, &fault),
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

fn config(
    settings: Settings,
    plugins: Vec<PluginEntry>,
    listeners: Vec<ListenerConfig>,
    origins: Arc<Origins>,
) -> Config {
    let timeouts = timeouts(settings.timeout, &settings.timeouts);
    Config {
        plugins,
        basic_auth: settings.basic_auth,
        listeners,
        num_workers: NonZeroUsize::new(settings.num_workers.0).unwrap_or_else(number_of_cores),
        backlog: settings.backlog.0 as u32,
        plugin_dirs: [settings.plugin_dirs, dirs_beside_executable()].concat(),
        plugin_statistics: settings.plugin_statistics,
        disable_headers: names(settings.disable_headers),
        server: ServerConfig {
            drain_timeout: settings.server.drain_timeout.0,
            control_socket: control_socket(settings.server.control_socket),
            user: settings.server.user,
            group: settings.server.group,
        },
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
        via: settings.via.0,
        access_log: access_log(settings.access_log, &settings.log_format),
        log: LogConfig {
            level: settings.log_level,
            file: settings.log_file.filter(|path| path.as_os_str() != "-"),
            format: settings.log_format,
        },
        open_file_limit: settings.open_file_limit.map(|limit| limit.0 as u64),
        pid_file: settings.pid_file,
        port_file: settings.port_file,
        origins,
    }
}

fn number_of_cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn dirs_beside_executable() -> Vec<PathBuf> {
    let Some(dir) = env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(PathBuf::from))
    else {
        return Vec::new();
    };
    vec![dir.join("plugins"), dir]
}

/// An empty path turns it off.
fn control_socket(path: Option<PathBuf>) -> ControlSocketConfig {
    match path {
        None => ControlSocketConfig::Default,
        Some(path) if path.as_os_str().is_empty() => ControlSocketConfig::Off,
        Some(path) => ControlSocketConfig::At(path),
    }
}

fn listener_key_pair(file: &TlsSettings) -> Option<KeyPairFiles> {
    let (cert_file, key_file) = (file.cert_file.clone(), file.key_file.clone());
    let pair = cert_file.zip(key_file);
    pair.map(|(cert_file, key_file)| KeyPairFiles {
        cert_file,
        key_file,
    })
}

fn access_log(file: AccessLogSettings, log: &LogFormat) -> AccessLogConfig {
    AccessLogConfig {
        file: file.file.unwrap_or_default(),
        format: file.format.unwrap_or(match log {
            LogFormat::Json => AccessFormat::Json,
            LogFormat::Text(_) => AccessFormat::Default,
        }),
        sample: file.sample.0,
        when: file.when,
        slow_after: file.slow_after.0,
    }
}

fn tls(file: TlsSettings) -> TlsConfig {
    let client_certificates = file.upstream.client_certificates.into_iter();
    TlsConfig {
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
        include: file.include,
        exclude: file.exclude,
        insecure_hosts: file.insecure_hosts,
        allow_fronting: file.allow_fronting,
        rejected_for: file.rejected_for.0,
        cached_certificates: file.cached_certificates.0,
        unknown: file.unknown,
        relay_protocols: file
            .relay_protocols
            .into_iter()
            .map(|name| name.0)
            .collect(),
        kept_certificates: file.kept_certificates.0,
        kept_certificates_len: file.kept_certificates_len.0 as u64,
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

fn timeouts(general: Seconds, file: &TimeoutsSettings) -> Timeouts {
    Timeouts {
        header_read: file.header_read.0,
        client_idle: seconds(file.idle, general.0),
        stall: file.stall.0,
        half_closed: file.half_closed.0,
        connect: file.connect.0,
        upstream_response: file.upstream_response.0,
        upstream_idle: file.upstream_idle.0,
        tunnel_idle: file.tunnel_idle.0,
        plugin_hook: file.plugin_hook.0,
        plugin_budget: file.plugin_budget.0,
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

fn limits(client: ByteLen, server: ByteLen, file: &LimitsSettings) -> Limits {
    let max_body_buffer = file.max_body_buffer.0 as u64;
    Limits {
        max_head_len: file.max_head_len.0,
        max_fields: file.max_fields.0,
        max_target_len: file.max_target_len.0,
        client_read_len: client.0,
        server_read_len: server.0,
        max_concurrent_streams: file.max_concurrent_streams.0 as u32,
        max_connections: file.max_connections.0,
        max_body_buffer,
        max_buffer_total: max_body_buffer.max(file.max_buffer_total.0 as u64),
        upstream_idle_per_host: file.upstream_idle_per_host.map(|number| number.0),
        upstream_idle_total: file.upstream_idle_total.map(|number| number.0),
        upstream_idle_timeout: file.upstream_idle_timeout.0,
    }
}

fn dns(file: &DnsSettings) -> DnsConfig {
    DnsConfig {
        resolver: file.resolver,
        servers: file.servers.iter().map(|server| server.0).collect(),
        cache_ttl_max: file.cache_ttl_max.0,
        negative_ttl: file.negative_ttl.0,
    }
}

#[cfg(test)]
mod tests;
