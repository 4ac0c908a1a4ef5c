//! The settings as they are named in `proxy.toml`.
//!
//! Every key is optional and unknown keys are errors, so that a misspelt key is not silently ignored. A value that
//! was read is in range. `settings_reader` fills them in; `load` makes the [`Config`](super::Config) of them.

use std::path::PathBuf;

use serde::Deserialize;

use super::DirectRule;
use super::value::{
    Backlog, Bounded, ByteLen, Bytes, FieldText, FileName, ForeignProtocol, HeaderName, Hostname,
    LogLevel, NameServer, OpenFileLimit, Port, Pseudonym, Seconds, SecondsOrZero, UrlPath,
    WorkerCount,
};
use super::{BasicAuth, HostPattern, Resolver, ResponseSyntax, Symlinks, UnknownProtocol};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Settings {
    pub(super) hostname: Option<Hostname>,
    pub(super) port: Option<Port>,
    pub(super) num_workers: Option<WorkerCount>,
    pub(super) backlog: Option<Backlog>,
    /// Files that are read as well. `load` follows them.
    #[serde(rename = "include")]
    _include: Vec<String>,
    /// Accepted as the flag of that name is; it changes nothing.
    #[serde(rename = "threadless")]
    _threadless: Option<bool>,
    pub(super) disable_headers: Vec<HeaderName>,
    pub(super) basic_auth: Option<BasicAuth>,
    pub(super) log_level: Option<LogLevel>,
    pub(super) log_file: Option<PathBuf>,
    pub(super) open_file_limit: Option<OpenFileLimit>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) plugin_dirs: Vec<PathBuf>,
    pub(super) plugin_statistics: Option<bool>,
    pub(super) client_recvbuf_size: Option<ByteLen>,
    pub(super) server_recvbuf_size: Option<ByteLen>,
    pub(super) timeout: Option<Seconds>,
    pub(super) via: Option<Pseudonym>,
    pub(super) timeouts: TimeoutsSettings,
    pub(super) limits: LimitsSettings,
    pub(super) dns: DnsSettings,
    pub(super) compatibility: CompatibilitySettings,
    pub(super) tls: TlsSettings,
    pub(super) interception: InterceptionSettings,
    pub(super) disable_http_proxy: bool,
    pub(super) web_server: WebServerSettings,
    pub(super) plugins: Vec<PluginSettings>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TimeoutsSettings {
    pub(super) header_read: Option<Seconds>,
    pub(super) idle: Option<Seconds>,
    pub(super) stall: Option<Seconds>,
    pub(super) half_closed: Option<Seconds>,
    pub(super) connect: Option<Seconds>,
    pub(super) upstream_response: Option<Seconds>,
    pub(super) upstream_idle: Option<Seconds>,
    pub(super) tunnel_idle: Option<Seconds>,
    pub(super) plugin_hook: Option<Seconds>,
    pub(super) plugin_budget: Option<Seconds>,
    pub(super) hosts: Vec<HostTimeoutsSettings>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostTimeoutsSettings {
    pub(super) hosts: Vec<HostPattern>,
    pub(super) stall: Option<Seconds>,
    pub(super) upstream_response: Option<Seconds>,
    pub(super) upstream_idle: Option<Seconds>,
    pub(super) tunnel_idle: Option<Seconds>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsSettings {
    pub(super) max_head_len: Option<Bytes<1024, 16_777_216>>,
    pub(super) max_fields: Option<Bounded<1, 256>>,
    pub(super) max_target_len: Option<Bytes<16, 16_777_216>>,
    pub(super) max_concurrent_streams: Option<Bounded<1, 65_535>>,
    pub(super) max_connections: Option<Bounded<0, 1_000_000_000>>,
    pub(super) max_body_buffer: Option<Bytes<0, 1_073_741_824>>,
    pub(super) max_buffer_total: Option<ByteLen>,
    pub(super) upstream_idle_per_host: Option<Bounded<0, 1_000_000>>,
    pub(super) upstream_idle_total: Option<Bounded<0, 1_000_000>>,
    pub(super) upstream_idle_timeout: Option<Seconds>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DnsSettings {
    pub(super) resolver: Option<Resolver>,
    pub(super) servers: Vec<NameServer>,
    pub(super) cache_ttl_max: Option<SecondsOrZero>,
    pub(super) negative_ttl: Option<SecondsOrZero>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CompatibilitySettings {
    pub(super) responses: ResponseSyntax,
    pub(super) relaxed_hosts: Vec<HostPattern>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsSettings {
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) key_log: bool,
    pub(super) upstream: UpstreamTlsSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UpstreamTlsSettings {
    pub(super) extra_ca_files: Vec<PathBuf>,
    pub(super) client_certificates: Vec<ClientCertificateSettings>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientCertificateSettings {
    pub(super) hosts: Vec<HostPattern>,
    pub(super) cert_file: PathBuf,
    pub(super) key_file: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct InterceptionSettings {
    pub(super) ca_cert_file: Option<PathBuf>,
    pub(super) ca_key_file: Option<PathBuf>,
    pub(super) ca_signing_key_file: Option<PathBuf>,
    pub(super) ca_cert_dir: Option<PathBuf>,
    pub(super) include: Option<Vec<HostPattern>>,
    pub(super) exclude: Vec<HostPattern>,
    pub(super) insecure_hosts: Vec<HostPattern>,
    pub(super) allow_fronting: Vec<HostPattern>,
    pub(super) rejected_for: Option<SecondsOrZero>,
    pub(super) cached_certificates: Option<Bounded<1, 1_000_000>>,
    pub(super) kept_certificates: Option<Bounded<1, 10_000_000>>,
    pub(super) kept_certificates_len: Option<ByteLen>,
    pub(super) unknown: UnknownProtocol,
    pub(super) relay_protocols: Vec<ForeignProtocol>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WebServerSettings {
    pub(super) enable: bool,
    pub(super) static_files: StaticFilesSettings,
    pub(super) pac: PacSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StaticFilesSettings {
    pub(super) enable: bool,
    pub(super) dir: Option<PathBuf>,
    pub(super) index: Option<Vec<FileName>>,
    pub(super) listing: bool,
    pub(super) symlinks: Option<Symlinks>,
    pub(super) precompressed: Option<bool>,
    pub(super) compress_from: Option<Bytes<0, 1_073_741_824>>,
    pub(super) cache_control: Option<FieldText>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PacSettings {
    pub(super) file: Option<String>,
    pub(super) url_path: Option<UrlPath>,
    pub(super) direct: Vec<DirectRule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PluginSettings {
    pub(super) library: String,
    pub(super) name: Option<String>,
    pub(super) timeout: Option<Seconds>,
    #[serde(default)]
    pub(super) config: toml::Table,
}
