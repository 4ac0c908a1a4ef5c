//! The configuration, checked once and never re-interpreted.
//!
//! `environment`, `flags` and the files that `include` follows each say some settings. `document` holds what they say,
//! one over the other (flags override the environment, which overrides the file, which overrides the defaults), with
//! where each is written. `settings_reader` reads the named `settings` from it, and `load` makes the [`Config`] of them
//! that the rest of the host reads; everything that is wrong on the way is reported at once, by `error`. A `Config` needs
//! no further checks: numbers are in range, names are lower-case, durations are not zero. Whether a host name resolves
//! or a library loads is found out where it is used.

mod access_format;
mod access_log;
mod basic_auth;
pub mod command;
mod compatibility;
mod direct_rule;
mod document;
mod environment;
mod error;
mod flags;
mod host_pattern;
mod include;
mod listeners;
mod load;
mod log_format;
mod origins;
mod plugins;
mod proxy_py;
pub mod schema;
mod settings;
mod settings_reader;
mod suggestion;
mod value;
mod web_server;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::http1::HeadLimits;

pub use access_format::{AccessField, AccessFormat, AccessFormatError, AccessPart, Escape};
pub use access_log::{AccessCondition, AccessLogConfig, AccessLogFile, Share};
pub use basic_auth::{BasicAuth, BasicAuthError};
pub use compatibility::{CompatibilityConfig, ResponseSyntax};
pub(crate) use direct_rule::RuleForm;
pub use direct_rule::{DirectRule, RuleError};
pub use error::{ConfigError, ConfigErrors};
pub use flags::Flags;
pub(crate) use flags::heading;
pub use host_pattern::HostPattern;
pub(crate) use listeners::covers;
pub use listeners::{Endpoint, ListenerConfig, ListenerKind};
pub use log_format::{FieldWidth, LogField, LogFormat, LogFormatError, LogPart};
pub use origins::{Origins, PluginPart};
pub use proxy_py::ProxyPyFlags;
pub(crate) use suggestion::closest;

pub use value::{
    Backlog, Bounded, ByteLen, Bytes, FileMode, HeaderName, HeaderNames, Hostname, LogLevel,
    OpenFileLimit, Port, Seconds, UrlPath, ValueError, WorkerCount,
};
pub use web_server::{PacConfig, StaticFilesConfig, Symlinks, WebServerConfig};

/// All settings. [`Config::default`] is the configuration without flags and file.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect; at least one. Default: `::1`, port 8899.
    pub listeners: Vec<ListenerConfig>,
    /// Worker threads. Default: the number of cores.
    pub num_workers: NonZeroUsize,
    /// Connections that may wait to be accepted, as given to listen(2); the kernel may lower it. Default 4096.
    pub backlog: u32,
    /// The plugins, in the order in which hooks are called.
    pub plugins: Vec<PluginEntry>,
    /// The directories searched for libraries: the configured ones, then `plugins` beside the executable, then the
    /// directory of the executable.
    pub plugin_dirs: Vec<PathBuf>,
    /// Whether calls into plugins are counted and timed.
    pub plugin_statistics: bool,
    /// The credential that clients must present in `Proxy-Authorization`. Default: none.
    pub basic_auth: Option<BasicAuth>,
    /// Request fields that are not forwarded, in lower case.
    pub disable_headers: Vec<String>,
    /// How the process itself runs and ends.
    pub server: ServerConfig,
    /// The time limit of each step.
    pub timeouts: Timeouts,
    /// Time limits for some hosts; the first entry that matches the host applies. Default: none.
    pub host_timeouts: Vec<HostTimeouts>,
    /// Size and number limits.
    pub limits: Limits,
    /// How host names are resolved.
    pub dns: DnsConfig,
    /// Tolerance for peers that violate the protocol.
    pub compatibility: CompatibilityConfig,
    /// TLS with clients and upstreams.
    pub tls: TlsConfig,
    /// Which tunnels are intercepted, and how. Default: none.
    pub interception: Option<InterceptionConfig>,
    /// How requests addressed to the proxy itself are answered.
    pub web_server: WebServerConfig,
    /// Do not forward requests; only the web server answers. Default: no.
    pub disable_http_proxy: bool,
    /// The proxy's name in `Via` (RFC 9110 §7.6.3). Default `proxy`.
    pub via: String,
    /// What is logged and where.
    pub log: LogConfig,
    /// The line of each exchange.
    pub access_log: AccessLogConfig,
    /// The soft limit on open files to set; never lowered. Default: the hard limit.
    pub open_file_limit: Option<u64>,
    /// The file for the process id. Default: none.
    pub pid_file: Option<PathBuf>,
    /// The file for the ports of the listeners, one per line. Default: none.
    pub port_file: Option<PathBuf>,
    /// Where all this is written, for messages.
    pub origins: Arc<Origins>,
}

/// The socket for commands such as `proxy reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ControlSocketConfig {
    /// `PORT.sock` in `$XDG_RUNTIME_DIR/proxy`, or in `~/.proxy/run` if there is no such directory. If it cannot be made,
    /// the proxy starts without.
    #[default]
    Default,
    /// At this path. If it cannot be made, the proxy does not start.
    At(PathBuf),
    /// None.
    Off,
}

/// A plugin to load; the library has not been searched for yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginEntry {
    /// As written, such as `path/lib.so:Name`.
    pub spec: String,
    /// The plugin's table as TOML text; empty if it has none.
    pub config: String,
    /// The time limit of each async hook. Default: [`Timeouts::plugin_hook`].
    pub timeout: Option<Duration>,
    /// Where the entry is written, such as `proxy.toml:12` or `--plugins`.
    pub origin: String,
    /// The position of its table in `plugins`; `None` if it has none.
    pub entry: Option<usize>,
}

/// How the process itself runs and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// How long exchanges and tunnels may take to end when the proxy stops; then they are cut off, each with its line in
    /// the access log. Zero cuts them off at once. Default 30 s.
    pub drain_timeout: Duration,
    /// The socket for commands such as `proxy reload`. Default: one in a directory of the user.
    pub control_socket: ControlSocketConfig,
    /// The user that the process becomes once it has bound its listeners and read its files, by name or number. Only root
    /// can become another one. Default: none.
    pub user: Option<String>,
    /// The group, if it is not that of the user. Default: none.
    pub group: Option<String>,
}

/// Time limits; each is positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a request head, from its first byte to its end; 408 if exceeded. Default 10 s.
    pub header_read: Duration,
    /// For an idle client connection, which is closed afterwards. Default 10 s.
    pub client_idle: Duration,
    /// For a peer that makes no progress within an exchange: a client that pauses in its content or accepts nothing of
    /// the response, or an upstream that accepts nothing of the request. If exceeded: 408 or 504, or the response is
    /// cut off. Default 60 s.
    pub stall: Duration,
    /// For an exchange or tunnel with one direction closed and no data in the other, unless data waits for its receiver
    /// to read. If exceeded, the client is considered gone, or the tunnel is closed. Default 10 s.
    pub half_closed: Duration,
    /// For connecting to the upstream, including name resolution; 504 if exceeded. Default 10 s.
    pub connect: Duration,
    /// From the end of the request to the response head; 504 if exceeded. Default 60 s.
    pub upstream_response: Duration,
    /// For an upstream that stalls within a response body. Default 60 s.
    pub upstream_idle: Duration,
    /// For a tunnel without data in either direction. Default 600 s.
    pub tunnel_idle: Duration,
    /// For each async hook of a plugin; 504 if exceeded. A plugin may have its own limit. Default 5 s.
    pub plugin_hook: Duration,
    /// For a plugin that blocks its worker; if exceeded, the log names it, and new connections go to other workers.
    /// Default 0.1 s.
    pub plugin_budget: Duration,
}

/// Time limits for some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTimeouts {
    /// The hosts.
    pub hosts: Vec<HostPattern>,
    /// All limits. Only `stall`, `upstream_response`, `upstream_idle` and `tunnel_idle` differ from
    /// [`Config::timeouts`].
    pub timeouts: Timeouts,
}

impl HostTimeouts {
    /// Whether this entry matches `host`, in its canonical form.
    pub fn names(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host))
    }
}

/// Limits on what peers may send and on what the proxy stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum length of a head, including the start line, in bytes; if exceeded, 431 to a client, 502 for an upstream.
    /// Default 64 KiB.
    pub max_head_len: usize,
    /// Maximum number of field lines of a head; if exceeded, 431 or 502. Default 256, which is also the upper bound.
    pub max_fields: usize,
    /// Maximum length of a request target in bytes; 414 if exceeded. Default 16 KiB.
    pub max_target_len: usize,
    /// Maximum number of bytes read from a client at once. Default 1 MiB.
    pub client_read_len: usize,
    /// Maximum number of bytes read from an upstream at once. Default 1 MiB.
    pub server_read_len: usize,
    /// HTTP/2 streams that a client may have open at once on a connection; further ones are refused. Default 128.
    pub max_concurrent_streams: u32,
    /// Client connections open at once; 0: limited by open files only. Default 0.
    pub max_connections: usize,
    /// Maximum content of one message that is buffered for plugins that request the whole body, in bytes, even if a
    /// plugin requests more. Also the maximum length of a WebSocket message if a plugin receives messages; if exceeded,
    /// both sides are closed, with 1009 to the sender. Default 16 MiB.
    pub max_body_buffer: u64,
    /// Maximum content of all messages that each worker buffers for plugins, in bytes: bodies and incomplete WebSocket
    /// messages. If exceeded, a request gets 503, a response becomes 503, and a WebSocket is closed with 1013. At least
    /// [`max_body_buffer`](Self::max_body_buffer). Default 128 MiB.
    pub max_buffer_total: u64,
    /// Maximum number of idle upstream connections per authority and worker; if exceeded, the least recently used one
    /// is closed. Default: no separate limit.
    pub upstream_idle_per_host: Option<usize>,
    /// Maximum number of idle upstream connections per worker; if exceeded, the least recently used one is closed.
    /// Default: as many as descriptors allow.
    pub upstream_idle_total: Option<usize>,
    /// How long an idle upstream connection is kept. Default 60 s.
    pub upstream_idle_timeout: Duration,
}

impl Limits {
    /// The limits of heads, for the parser.
    pub fn head(&self) -> HeadLimits {
        HeadLimits {
            max_head_len: self.max_head_len,
            max_fields: self.max_fields,
            max_target_len: self.max_target_len,
        }
    }
}

/// How host names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Default [`Resolver::Dns`].
    pub resolver: Resolver,
    /// Name servers to use instead of those of the system; for [`Resolver::Dns`] only. Default: none.
    pub servers: Vec<SocketAddr>,
    /// Maximum time an answer is cached, regardless of its TTL; zero: no caching. Default 300 s.
    pub cache_ttl_max: Duration,
    /// How long it is cached that a name has no address, and, for at most a second, that no server could be reached;
    /// zero: no caching. Default 5 s.
    pub negative_ttl: Duration,
}

/// Resolves host names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Resolver {
    /// The proxy itself, over DNS, with a cache; also reads `/etc/hosts`.
    Dns,
    /// The system's `getaddrinfo`, as configured on the machine.
    System,
}

/// TLS with clients and upstreams. The certificates of listeners are in [`ListenerConfig`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// TLS with origins and parent proxies.
    pub upstream: UpstreamTls,
    /// Write session secrets to the file that the environment variable SSLKEYLOGFILE names. Default: no.
    pub key_log: bool,
}

/// A certificate chain and its private key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPairFiles {
    /// The chain, the server's own certificate first.
    pub cert_file: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key_file: PathBuf,
}

/// TLS with origins and parent proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM files of certificates to trust in addition to the system's. Default: none.
    pub extra_ca_files: Vec<PathBuf>,
    /// Client certificates; the first entry that matches the host applies. Default: none.
    pub client_certificates: Vec<ClientCertificate>,
}

/// A client certificate for some upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The upstreams.
    pub hosts: Vec<HostPattern>,
    /// Certificate and key.
    pub files: KeyPairFiles,
}

/// Interception: which tunnels are decrypted, and with which CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterceptionConfig {
    /// Certificate and key of the CA.
    pub ca: KeyPairFiles,
    /// The private key that all issued certificates use.
    pub signing_key_file: PathBuf,
    /// The directory for issued certificates. Default `~/.proxy`; created with mode 0700.
    pub cert_dir: PathBuf,
    /// The hosts whose tunnels are intercepted. Default: all.
    pub include: Vec<HostPattern>,
    /// Exceptions from `include`. Default: none.
    pub exclude: Vec<HostPattern>,
    /// Hosts whose certificates are not verified. Default: none.
    pub insecure_hosts: Vec<HostPattern>,
    /// Hosts whose tunnels may carry another server name, or requests for another host. Default: none.
    pub allow_fronting: Vec<HostPattern>,
    /// How long the tunnels of a client to a host are relayed after the client has rejected our certificate; zero:
    /// never. Default 600 s.
    pub rejected_for: Duration,
    /// Maximum number of certificates in memory. Default 1024.
    pub cached_certificates: usize,
    /// Maximum number and total length of certificates on disk; if exceeded, the least recently used ones are removed.
    /// Default 10,000 and 64 MiB.
    pub kept_certificates: usize,
    /// See [`kept_certificates`](Self::kept_certificates).
    pub kept_certificates_len: u64,
    /// What to do with intercepted tunnels that carry neither TLS nor HTTP. Default: relay them without decryption.
    pub unknown: UnknownProtocol,
    /// ALPN protocols: TLS whose client offers only these is relayed without decryption. Default: none.
    pub relay_protocols: Vec<String>,
}

/// What to do with a tunnel that carries neither TLS nor HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnknownProtocol {
    /// Relay it.
    #[default]
    Relay,
    /// Close it.
    Close,
}

/// What is logged, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// The lowest level to log. Default INFO.
    pub level: LogLevel,
    /// File to append to. Default: standard output.
    pub file: Option<PathBuf>,
    /// The layout of lines. Default: time, level, process, place and message.
    pub format: LogFormat,
}
