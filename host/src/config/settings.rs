//! The settings as they are named in `proxy.toml`.
//!
//! Every key is optional and unknown keys are errors, so that a misspelt key is not silently ignored. A value that
//! was read is in range. `settings_reader` fills them in; `load` makes the [`Config`](super::Config) of them.
//!
//! The code states the default of each key here alone: in the `Default` of its table, or, for an enum, as its
//! `#[default]`. A key that is `None` by default has its meaning at the field of `Config`.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::DirectRule;
use super::value::{
    Backlog, Bounded, ByteLen, Bytes, FieldText, FileMode, FileName, ForeignProtocol, HeaderName,
    Hostname, LogLevel, NameServer, OpenFileLimit, Port, Pseudonym, Seconds, SecondsOrZero,
    TrustedNetwork, UrlPath, WorkerCount,
};
use super::{
    AccessCondition, AccessFormat, AccessLogFile, BasicAuth, HostPattern, ListenerKind, LogFormat,
    Resolver, ResponseSyntax, Share, Symlinks, UnknownProtocol,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    pub(super) hostname: Hostname,
    pub(super) port: Port,
    pub(super) num_workers: WorkerCount,
    pub(super) backlog: Backlog,
    // `include` follows them.
    #[serde(rename = "include")]
    _include: Vec<String>,
    // Accepted as the flag of that name is; it changes nothing.
    #[serde(rename = "threadless")]
    _threadless: bool,
    pub(super) disable_headers: Vec<HeaderName>,
    pub(super) basic_auth: Option<BasicAuth>,
    pub(super) log_level: LogLevel,
    pub(super) log_file: Option<PathBuf>,
    pub(super) log_format: LogFormat,
    pub(super) access_log: AccessLogSettings,
    pub(super) open_file_limit: Option<OpenFileLimit>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) port_file: Option<PathBuf>,
    pub(super) plugin_dirs: Vec<PathBuf>,
    pub(super) plugin_statistics: bool,
    pub(super) client_recvbuf_size: ByteLen,
    pub(super) server_recvbuf_size: ByteLen,
    pub(super) timeout: Seconds,
    pub(super) via: Pseudonym,
    pub(super) server: ServerSettings,
    pub(super) timeouts: TimeoutsSettings,
    pub(super) limits: LimitsSettings,
    pub(super) dns: DnsSettings,
    pub(super) compatibility: CompatibilitySettings,
    pub(super) tls: TlsSettings,
    pub(super) interception: InterceptionSettings,
    pub(super) disable_http_proxy: bool,
    pub(super) web_server: WebServerSettings,
    pub(super) listeners: Vec<ListenerSettings>,
    pub(super) plugins: Vec<PluginSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            hostname: Hostname("::1".to_owned()),
            port: Bounded(8899),
            num_workers: Bounded(0),
            backlog: Bounded(4096),
            _include: Vec::new(),
            _threadless: true,
            disable_headers: Vec::new(),
            basic_auth: None,
            log_level: LogLevel::default(),
            log_file: None,
            log_format: LogFormat::default(),
            access_log: AccessLogSettings::default(),
            open_file_limit: None,
            pid_file: None,
            port_file: None,
            plugin_dirs: Vec::new(),
            plugin_statistics: true,
            client_recvbuf_size: Bytes(1024 * 1024),
            server_recvbuf_size: Bytes(1024 * 1024),
            timeout: secs(10),
            via: Pseudonym("proxy".to_owned()),
            server: ServerSettings::default(),
            timeouts: TimeoutsSettings::default(),
            limits: LimitsSettings::default(),
            dns: DnsSettings::default(),
            compatibility: CompatibilitySettings::default(),
            tls: TlsSettings::default(),
            interception: InterceptionSettings::default(),
            disable_http_proxy: false,
            web_server: WebServerSettings::default(),
            listeners: Vec::new(),
            plugins: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServerSettings {
    pub(super) drain_timeout: SecondsOrZero,
    pub(super) control_socket: Option<PathBuf>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        ServerSettings {
            drain_timeout: SecondsOrZero(Duration::from_secs(30)),
            control_socket: None,
            user: None,
            group: None,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AccessLogSettings {
    pub(super) file: Option<AccessLogFile>,
    // The default depends on `log_format`.
    pub(super) format: Option<AccessFormat>,
    pub(super) sample: Share,
    pub(super) when: Vec<AccessCondition>,
    pub(super) slow_after: Seconds,
}

impl Default for AccessLogSettings {
    fn default() -> Self {
        AccessLogSettings {
            file: None,
            format: None,
            sample: Share(1.0),
            when: Vec::new(),
            slow_after: secs(1),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TimeoutsSettings {
    pub(super) header_read: Seconds,
    // The default is `timeout`.
    pub(super) idle: Option<Seconds>,
    pub(super) stall: Seconds,
    pub(super) half_closed: Seconds,
    pub(super) connect: Seconds,
    pub(super) upstream_response: Seconds,
    pub(super) upstream_idle: Seconds,
    pub(super) tunnel_idle: Seconds,
    pub(super) plugin_hook: Seconds,
    pub(super) plugin_budget: Seconds,
    pub(super) hosts: Vec<HostTimeoutsSettings>,
}

impl Default for TimeoutsSettings {
    fn default() -> Self {
        TimeoutsSettings {
            header_read: secs(10),
            idle: None,
            stall: secs(60),
            half_closed: secs(10),
            connect: secs(10),
            upstream_response: secs(60),
            upstream_idle: secs(60),
            tunnel_idle: secs(600),
            plugin_hook: secs(5),
            plugin_budget: Seconds(Duration::from_millis(100)),
            hosts: Vec::new(),
        }
    }
}

const fn secs(secs: u64) -> Seconds {
    Seconds(Duration::from_secs(secs))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HostTimeoutsSettings {
    pub(super) hosts: Vec<HostPattern>,
    pub(super) stall: Option<Seconds>,
    pub(super) upstream_response: Option<Seconds>,
    pub(super) upstream_idle: Option<Seconds>,
    pub(super) tunnel_idle: Option<Seconds>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsSettings {
    pub(super) max_head_len: Bytes<1024, 16_777_216>,
    pub(super) max_fields: Bounded<1, 256>,
    pub(super) max_target_len: Bytes<16, 16_777_216>,
    pub(super) max_concurrent_streams: Bounded<1, 65_535>,
    pub(super) max_connections: Bounded<0, 1_000_000_000>,
    pub(super) max_body_buffer: Bytes<0, 1_073_741_824>,
    pub(super) max_buffer_total: ByteLen,
    pub(super) upstream_idle_per_host: Option<Bounded<0, 1_000_000>>,
    pub(super) upstream_idle_total: Option<Bounded<0, 1_000_000>>,
    pub(super) upstream_idle_timeout: Seconds,
}

impl Default for LimitsSettings {
    fn default() -> Self {
        LimitsSettings {
            max_head_len: Bytes(64 * 1024),
            max_fields: Bounded(256),
            max_target_len: Bytes(16 * 1024),
            max_concurrent_streams: Bounded(128),
            max_connections: Bounded(0),
            max_body_buffer: Bytes(16 * 1024 * 1024),
            max_buffer_total: Bytes(128 * 1024 * 1024),
            upstream_idle_per_host: None,
            upstream_idle_total: None,
            upstream_idle_timeout: secs(60),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DnsSettings {
    pub(super) resolver: Resolver,
    pub(super) servers: Vec<NameServer>,
    pub(super) cache_ttl_max: SecondsOrZero,
    pub(super) negative_ttl: SecondsOrZero,
}

impl Default for DnsSettings {
    fn default() -> Self {
        DnsSettings {
            resolver: Resolver::Dns,
            servers: Vec::new(),
            cache_ttl_max: SecondsOrZero(Duration::from_secs(300)),
            negative_ttl: SecondsOrZero(Duration::from_secs(5)),
        }
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CompatibilitySettings {
    pub(super) responses: ResponseSyntax,
    pub(super) relaxed_hosts: Vec<HostPattern>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsSettings {
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) key_log: bool,
    pub(super) upstream: UpstreamTlsSettings,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UpstreamTlsSettings {
    pub(super) extra_ca_files: Vec<PathBuf>,
    pub(super) client_certificates: Vec<ClientCertificateSettings>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientCertificateSettings {
    pub(super) hosts: Vec<HostPattern>,
    pub(super) cert_file: PathBuf,
    pub(super) key_file: PathBuf,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct InterceptionSettings {
    pub(super) ca_cert_file: Option<PathBuf>,
    pub(super) ca_key_file: Option<PathBuf>,
    pub(super) ca_signing_key_file: Option<PathBuf>,
    pub(super) ca_cert_dir: Option<PathBuf>,
    pub(super) include: Vec<HostPattern>,
    pub(super) exclude: Vec<HostPattern>,
    pub(super) insecure_hosts: Vec<HostPattern>,
    pub(super) allow_fronting: Vec<HostPattern>,
    pub(super) rejected_for: SecondsOrZero,
    pub(super) cached_certificates: Bounded<1, 1_000_000>,
    pub(super) kept_certificates: Bounded<1, 10_000_000>,
    pub(super) kept_certificates_len: ByteLen,
    pub(super) unknown: UnknownProtocol,
    pub(super) relay_protocols: Vec<ForeignProtocol>,
}

impl Default for InterceptionSettings {
    fn default() -> Self {
        InterceptionSettings {
            ca_cert_file: None,
            ca_key_file: None,
            ca_signing_key_file: None,
            ca_cert_dir: None,
            include: vec![HostPattern::all()],
            exclude: Vec::new(),
            insecure_hosts: Vec::new(),
            allow_fronting: Vec::new(),
            rejected_for: SecondsOrZero(Duration::from_secs(600)),
            cached_certificates: Bounded(1024),
            kept_certificates: Bounded(10_000),
            kept_certificates_len: Bytes(64 * 1024 * 1024),
            unknown: UnknownProtocol::default(),
            relay_protocols: Vec::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WebServerSettings {
    pub(super) enable: bool,
    pub(super) static_files: StaticFilesSettings,
    pub(super) pac: PacSettings,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StaticFilesSettings {
    pub(super) enable: bool,
    pub(super) dir: Option<PathBuf>,
    pub(super) index: Vec<FileName>,
    pub(super) listing: bool,
    pub(super) symlinks: Symlinks,
    pub(super) precompressed: bool,
    pub(super) compress_from: Bytes<0, 1_073_741_824>,
    pub(super) cache_control: FieldText,
}

impl Default for StaticFilesSettings {
    fn default() -> Self {
        StaticFilesSettings {
            enable: false,
            dir: None,
            index: vec![FileName("index.html".to_owned())],
            listing: false,
            symlinks: Symlinks::default(),
            precompressed: true,
            compress_from: Bytes(1024),
            cache_control: FieldText(String::new()),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PacSettings {
    pub(super) file: Option<String>,
    pub(super) url_path: UrlPath,
    pub(super) direct: Vec<DirectRule>,
}

impl Default for PacSettings {
    fn default() -> Self {
        PacSettings {
            file: None,
            url_path: UrlPath("/".to_owned()),
            direct: Vec::new(),
        }
    }
}

/// A listener besides the first one, which `hostname`, `port` and `[tls]` describe.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ListenerSettings {
    pub(super) name: Option<String>,
    pub(super) hostname: Option<Hostname>,
    pub(super) port: Option<Port>,
    pub(super) path: Option<PathBuf>,
    pub(super) mode: Option<FileMode>,
    pub(super) kind: Option<ListenerKind>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) proxy_protocol_from: Vec<TrustedNetwork>,
    pub(super) plugins: Option<Vec<String>>,
}

impl ListenerSettings {
    /// Whether it speaks TLS without a certificate of its own.
    pub(super) fn needs_key_pair(&self) -> bool {
        self.kind == Some(ListenerKind::Https) && self.cert_file.is_none()
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PluginSettings {
    pub(super) library: String,
    pub(super) name: Option<String>,
    pub(super) timeout: Option<Seconds>,
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub(super) config: toml::Table,
}
