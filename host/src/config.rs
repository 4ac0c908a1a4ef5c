//! The configuration, checked once and never re-interpreted.
//!
//! `file` is `proxy.toml` as written, `flags` the flags as given; `load` merges the two (flags override the file,
//! the file overrides the defaults) into the [`Config`] that the rest of the host reads. A `Config` needs no further
//! checks: numbers are in range, names are lower-case, durations are not zero. Whether a host name resolves or a
//! library loads is found out where it is used.

mod basic_auth;
mod compatibility;
mod direct_rule;
mod file;
mod flags;
mod host_pattern;
mod load;
mod plugins;
mod value;
mod web_server;

use std::env;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use crate::http1::HeadLimits;

pub use basic_auth::{BasicAuth, BasicAuthError};
pub use compatibility::{CompatibilityConfig, ResponseSyntax};
pub(crate) use direct_rule::Form as DirectRuleForm;
pub use direct_rule::{DirectRule, RuleError};
pub use file::FileError;
pub use flags::Flags;
pub use host_pattern::HostPattern;
pub use load::ConfigError;
pub use value::{
    Backlog, Bounded, ByteLen, HeaderName, HeaderNames, Hostname, LogLevel, OpenFileLimit, Port,
    Seconds, UrlPath, ValueError, WorkerCount,
};
pub use web_server::{PacConfig, StaticFilesConfig, Symlinks, WebServerConfig};

/// Everything the host needs to start. [`Config::default`] is what `proxy` does without flags or a file.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen: an IP literal without brackets, or a name that is resolved at start. Default `::1`.
    pub hostname: String,
    /// TCP port to listen on; 0 lets the system choose. Default 8899.
    pub port: u16,
    /// Worker threads. Default: the number of cores.
    pub num_workers: NonZeroUsize,
    /// Connections that may wait to be accepted, as given to listen(2). Default 100.
    pub backlog: u32,
    /// The plugins, in the order in which every hook is called.
    pub plugins: Vec<PluginEntry>,
    /// Where libraries are looked for: the given directories, then `plugins` beside the executable, then the
    /// directory of the executable itself.
    pub plugin_dirs: Vec<PathBuf>,
    /// Calls into plugins are counted and timed.
    pub plugin_statistics: bool,
    /// What clients must present in `Proxy-Authorization`. Default: nothing.
    pub basic_auth: Option<BasicAuth>,
    /// Request fields that are not forwarded, in lower case.
    pub disable_headers: Vec<String>,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How long the steps of exchanges with some hosts may take; the first entry that names the host counts. Default:
    /// none.
    pub host_timeouts: Vec<HostTimeouts>,
    /// How much of everything is accepted.
    pub limits: Limits,
    /// How host names become addresses.
    pub dns: DnsConfig,
    /// What is taken from peers that break the rules.
    pub compatibility: CompatibilityConfig,
    /// TLS on either side.
    pub tls: TlsConfig,
    /// Whose TLS is ended here, and how. Default: nobody's.
    pub interception: Option<InterceptionConfig>,
    /// What is answered to requests that are for the proxy itself.
    pub web_server: WebServerConfig,
    /// Nothing is forwarded: only the web server answers. Default: no.
    pub disable_http_proxy: bool,
    /// The name under which the proxy adds itself to `Via` (RFC 9110 §7.6.3). Default `proxy`.
    pub via: String,
    /// What is logged and where.
    pub log: LogConfig,
    /// Soft limit on open files to ask the system for; only ever raised. Default: the hard limit.
    pub open_file_limit: Option<u64>,
    /// Where to write the process id. Default: nowhere.
    pub pid_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            hostname: "::1".to_owned(),
            port: 8899,
            num_workers: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            backlog: 100,
            plugins: Vec::new(),
            plugin_dirs: dirs_beside_executable(),
            plugin_statistics: true,
            basic_auth: None,
            disable_headers: Vec::new(),
            timeouts: Timeouts::default(),
            host_timeouts: Vec::new(),
            limits: Limits::default(),
            dns: DnsConfig::default(),
            compatibility: CompatibilityConfig::default(),
            tls: TlsConfig::default(),
            interception: None,
            web_server: WebServerConfig::default(),
            disable_http_proxy: false,
            via: "proxy".to_owned(),
            log: LogConfig::default(),
            open_file_limit: None,
            pid_file: None,
        }
    }
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

/// One plugin to load, not yet looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginEntry {
    /// As written, such as `path/lib.so:Name`.
    pub spec: String,
    /// The plugin's own table as TOML text; empty if it has none.
    pub config: String,
    /// How long each of its hooks may wait. Default: [`Timeouts::plugin_hook`].
    pub timeout: Option<Duration>,
    /// Where the entry was written, such as `proxy.toml:12` or `--plugins`.
    pub origin: String,
}

/// Deadlines; each is positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a request head, from its first byte to its end; past it 408. Default 10 s.
    pub header_read: Duration,
    /// For a client connection on which nothing is under way; past it, it is closed. Default 10 s.
    pub client_idle: Duration,
    /// For a peer that makes no progress inside an exchange: a client that pauses in its content or takes nothing of
    /// the response, an upstream that takes nothing of the request. Past it 408 or 504, or the response is cut off.
    /// Default 60 s.
    pub stall: Duration,
    /// For an exchange or a tunnel of which one side has closed its direction, and in which nothing moves, nor waits
    /// for its receiver to read. Past it the client has gone, or the tunnel is closed. Default 10 s.
    pub half_closed: Duration,
    /// For the connection to the upstream, resolving included; past it 504. Default 10 s.
    pub connect: Duration,
    /// From the end of the request to the response head; past it 504. Default 60 s.
    pub upstream_response: Duration,
    /// For an upstream that stalls within a response body. Default 60 s.
    pub upstream_idle: Duration,
    /// For a tunnel in which no byte moves either way. Default 600 s.
    pub tunnel_idle: Duration,
    /// For each async hook of a plugin; past it the exchange fails with 504. A plugin may have its own. Default 5 s.
    pub plugin_hook: Duration,
    /// For a plugin that keeps its worker without waiting; past it the log names it, and new connections go to other
    /// workers. Default 0.1 s.
    pub plugin_budget: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            header_read: Duration::from_secs(10),
            client_idle: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            half_closed: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            upstream_response: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(60),
            tunnel_idle: Duration::from_secs(600),
            plugin_hook: Duration::from_secs(5),
            plugin_budget: Duration::from_millis(100),
        }
    }
}

/// Deadlines of exchanges with some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTimeouts {
    /// Which hosts.
    pub hosts: Vec<HostPattern>,
    /// All of the deadlines. Only `stall`, `upstream_response`, `upstream_idle` and `tunnel_idle` differ from
    /// [`Config::timeouts`].
    pub timeouts: Timeouts,
}

impl HostTimeouts {
    /// Whether this entry is about `host`, in its canonical form.
    pub fn names(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host))
    }
}

/// Bounds on what peers may send and on what the proxy keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest head, start line included, in bytes; past it 431 to a client, 502 for an upstream. Default 64 KiB.
    pub max_head_len: usize,
    /// Most field lines of a head; past it 431 or 502. Default 256, which is also the most.
    pub max_fields: usize,
    /// Longest request target in bytes; past it 414. Default 16 KiB.
    pub max_target_len: usize,
    /// Most bytes read from a client at once. Default 1 MiB.
    pub client_read_len: usize,
    /// Most bytes read from an upstream at once. Default 1 MiB.
    pub server_read_len: usize,
    /// HTTP/2 streams that a client may have open at once on one connection; further ones are refused. Default 128.
    pub max_concurrent_streams: u32,
    /// Client connections open at once; 0 leaves it to the limit on open files. Default 0.
    pub max_connections: usize,
    /// The most content of one message that is collected for plugins that want it whole, in bytes; a plugin that asks
    /// for more gets bodies up to this. Also the longest WebSocket message where a plugin listens to messages; past it
    /// both sides are closed, 1009 to its sender. Default 16 MiB.
    pub max_body_buffer: u64,
    /// The most content of all messages together that each worker holds for plugins that want them whole, in bytes:
    /// bodies, and WebSocket messages that are not whole yet. Past it a request gets 503, a response becomes 503, and a
    /// WebSocket is closed with 1013. At least [`max_body_buffer`](Self::max_body_buffer). Default 128 MiB.
    pub max_buffer_total: u64,
    /// Idle upstream connections kept for one authority, per worker; past it the one that was used least recently is
    /// closed. Default: as many as in all.
    pub upstream_idle_per_host: Option<usize>,
    /// Idle upstream connections kept in all, per worker; past it the one that was used least recently is closed. Default:
    /// as many as descriptors allow.
    pub upstream_idle_total: Option<usize>,
    /// How long an idle upstream connection is kept. Default 60 s.
    pub upstream_idle_timeout: Duration,
}

impl Limits {
    /// Those of heads, for the parser.
    pub fn head(&self) -> HeadLimits {
        HeadLimits {
            max_head_len: self.max_head_len,
            max_fields: self.max_fields,
            max_target_len: self.max_target_len,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_head_len: 64 * 1024,
            max_fields: 256,
            max_target_len: 16 * 1024,
            client_read_len: 1024 * 1024,
            server_read_len: 1024 * 1024,
            max_concurrent_streams: 128,
            max_connections: 0,
            max_body_buffer: 16 * 1024 * 1024,
            max_buffer_total: 128 * 1024 * 1024,
            upstream_idle_per_host: None,
            upstream_idle_total: None,
            upstream_idle_timeout: Duration::from_secs(60),
        }
    }
}

/// How host names become addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Who is asked. Default [`Resolver::Dns`].
    pub resolver: Resolver,
    /// Name servers to ask instead of the system's; read by [`Resolver::Dns`] only. Default: none.
    pub servers: Vec<SocketAddr>,
    /// Longest time an answer is kept, whatever its TTL says; zero keeps none. Default 300 s.
    pub cache_ttl_max: Duration,
    /// How long it is remembered that a name has no address, and for at most a second that nobody could be asked; zero
    /// forgets it at once. Default 5 s.
    pub negative_ttl: Duration,
}

impl Default for DnsConfig {
    fn default() -> Self {
        DnsConfig {
            resolver: Resolver::Dns,
            servers: Vec::new(),
            cache_ttl_max: Duration::from_secs(300),
            negative_ttl: Duration::from_secs(5),
        }
    }
}

/// Who turns a host name into addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolver {
    /// The proxy itself, over DNS, with a cache; `/etc/hosts` is read, too.
    Dns,
    /// The system's `getaddrinfo`, with whatever the machine has configured for it.
    System,
}

/// TLS on either side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// What the listeners speak TLS with. Default: they speak clear text.
    pub listener: Option<KeyPairFiles>,
    /// Towards origins and parent proxies.
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

/// TLS towards origins and parent proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM files of certificates that are trusted besides the system's; read at the start. Default: none.
    pub extra_ca_files: Vec<PathBuf>,
    /// What the proxy shows to upstreams that ask who it is; the first entry that names the host counts. Default: none.
    pub client_certificates: Vec<ClientCertificate>,
}

/// A certificate to show to some upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// To whom.
    pub hosts: Vec<HostPattern>,
    /// Certificate and key.
    pub files: KeyPairFiles,
}

/// Interception: whose TLS is ended here, and with which CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterceptionConfig {
    /// Certificate and key of the CA.
    pub ca: KeyPairFiles,
    /// The private key of all certificates that are made.
    pub signing_key_file: PathBuf,
    /// Where certificates are kept. Default `~/.proxy`; made with mode 0700.
    pub cert_dir: PathBuf,
    /// The hosts whose tunnels are looked into. Default: all.
    pub include: Vec<HostPattern>,
    /// Those among them whose tunnels are not. Default: none.
    pub exclude: Vec<HostPattern>,
    /// Hosts whose certificate is not verified. Default: none.
    pub insecure_hosts: Vec<HostPattern>,
    /// Hosts in whose tunnels another server name, or requests for another host, are served. Default: none.
    pub allow_fronting: Vec<HostPattern>,
    /// How long a host is not intercepted for a client that has refused our certificate; zero: always try again.
    /// Default 600 s.
    pub rejected_for: Duration,
    /// Certificates kept in memory. Default 1024.
    pub cached_certificates: usize,
    /// Certificates kept on disk, and how many bytes they may have together; past either, the ones that were read or
    /// made the longest ago are removed. Default 10,000 and 64 MiB.
    pub kept_certificates: usize,
    /// See [`kept_certificates`](Self::kept_certificates).
    pub kept_certificates_len: u64,
    /// What becomes of intercepted tunnels in which neither TLS nor HTTP is spoken. Default: they are relayed unseen.
    pub unknown: UnknownProtocol,
    /// TLS whose client offers only these protocols (ALPN) is relayed unseen. Default: none.
    pub relay_protocols: Vec<String>,
}

/// What becomes of a tunnel in which neither TLS nor HTTP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownProtocol {
    /// It is relayed unseen.
    #[default]
    Relay,
    /// It is closed.
    Close,
}

/// What is logged and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// The least severe level that is written. Default INFO.
    pub level: LogLevel,
    /// File to append to. Default: standard output.
    pub file: Option<PathBuf>,
}
