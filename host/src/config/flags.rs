//! The command-line flags of the configuration, and their help; no behaviour.
//!
//! A flag that was not given is `None`, so that the value in the file applies. Values have the same types as in
//! `proxy.toml`, so an invalid value causes the same error message in both places.

use std::path::PathBuf;

use clap::Parser;

use super::{
    Backlog, ByteLen, HeaderNames, Hostname, LogLevel, OpenFileLimit, Port, Seconds, UrlPath,
    WorkerCount,
};

// No doc comment: clap would use it as the description of the program.
#[derive(Parser, Default)]
#[allow(missing_docs, reason = "as above")]
pub struct Flags {
    /// Read settings from this file; flags override it. Default: no file.
    #[arg(long, value_name = "FILE", env = "PROXY_CONFIG")]
    pub config: Option<PathBuf>,

    /// Plugins to load, in the order in which their hooks are called; separated by commas, may be repeated.
    /// LIBRARY is a shared library, NAME a plugin in it, which may be omitted if there is only one. A path such as
    /// ./x.so or /opt/x.so means exactly that file; a bare name is searched for in the plugin directories.
    /// Replaces the list in the file. Default: none.
    #[arg(long, value_name = "LIBRARY:NAME,...", alias = "plugin")]
    pub plugins: Vec<String>,

    /// Directory to search for plugin libraries; may be repeated. `plugins` beside the executable and the directory of
    /// the executable are always searched, after these.
    #[arg(long, value_name = "DIR")]
    pub plugin_dir: Vec<PathBuf>,

    /// One setting of one plugin; may be repeated. VALUE is TOML; anything else is a string. Default: none.
    #[arg(long, value_name = "NAME.KEY=VALUE")]
    pub plugin_config: Vec<String>,

    /// Address to listen on: an IP literal or a name such as localhost. Default: ::1.
    #[arg(long, value_name = "ADDRESS")]
    pub hostname: Option<Hostname>,

    /// TCP port to listen on; 0 selects a free port, which the log shows. Default: 8899.
    #[arg(long, value_name = "PORT")]
    pub port: Option<Port>,

    /// Number of worker threads; 0 for one per CPU core. Default: the number of CPU cores.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub num_workers: Option<WorkerCount>,

    /// Accepted for compatibility and ignored: workers serve connections without a thread for each.
    #[arg(long)]
    pub threadless: bool,

    /// Number of connections that may wait to be accepted. Default: 100.
    #[arg(long, value_name = "N")]
    pub backlog: Option<Backlog>,

    /// Seconds after which an idle client connection is closed; decimals are allowed. Default: 10.
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub timeout: Option<Seconds>,

    /// Maximum number of bytes read from a client at once; accepts K, M and G. Default: 1M.
    #[arg(long, value_name = "BYTES")]
    pub client_recvbuf_size: Option<ByteLen>,

    /// Maximum number of bytes read from an upstream server at once; accepts K, M and G. Default: 1M.
    #[arg(long, value_name = "BYTES")]
    pub server_recvbuf_size: Option<ByteLen>,

    /// Request headers to remove before forwarding, separated by commas, may be repeated. Default: none.
    #[arg(long, value_name = "NAME,...")]
    pub disable_headers: Vec<HeaderNames>,

    /// Require this user name and password from every client. Use the environment variable to keep it out of the
    /// process list. Default: no authentication.
    // Checked by `config`, whose errors do not repeat it.
    #[arg(
        long,
        value_name = "USER:PASSWORD",
        env = "PROXY_BASIC_AUTH",
        hide_env_values = true
    )]
    pub basic_auth: Option<String>,

    /// PEM file of certificates to trust for upstream servers, in addition to those of the system; may be repeated.
    /// Default: none.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Vec<PathBuf>,

    /// PEM file with the certificate of the listener, followed by its chain: clients then speak TLS to the proxy
    /// (https://). Requires --key-file. Reloaded on SIGHUP. Default: none, clients connect without TLS.
    #[arg(long, value_name = "FILE")]
    pub cert_file: Option<PathBuf>,

    /// PEM file with the private key of --cert-file. Default: none.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// PEM file with the CA certificate for interception: the proxy then decrypts the TLS traffic of its clients, which
    /// have to trust this CA. Requires --ca-key-file and --ca-signing-key-file; `proxy ca init` creates all three.
    /// Default: none, TLS is relayed without decryption.
    #[arg(long, value_name = "FILE")]
    pub ca_cert_file: Option<PathBuf>,

    /// PEM file with the private key of --ca-cert-file. Default: none.
    #[arg(long, value_name = "FILE")]
    pub ca_key_file: Option<PathBuf>,

    /// PEM file with the private key that the certificates of intercepted hosts use. Default: none.
    #[arg(long, value_name = "FILE")]
    pub ca_signing_key_file: Option<PathBuf>,

    /// Directory for the certificates of intercepted hosts. Default: ~/.proxy.
    #[arg(long, value_name = "DIR")]
    pub ca_cert_dir: Option<PathBuf>,

    /// Answer requests addressed to the proxy itself, such as http://localhost:8899/path, with the routes of plugins,
    /// static files (--enable-static-server) and the PAC file (--pac-file). Default: such requests are refused.
    #[arg(long)]
    pub enable_web_server: bool,

    /// Do not forward requests; act as a web server only. Default: requests are forwarded.
    #[arg(long)]
    pub disable_http_proxy: bool,

    /// Serve the files in --static-server-dir; enables the web server. Default: no files.
    #[arg(long)]
    pub enable_static_server: bool,

    /// Directory of the files for --enable-static-server. Default: `public` beside the executable.
    #[arg(long, value_name = "DIR")]
    pub static_server_dir: Option<PathBuf>,

    /// Serve this PAC (proxy auto-configuration) file; enables the web server. If no such file exists and the value
    /// contains FindProxyForURL, the value is the text to serve. `proxy pac generate` creates one. Default: none.
    #[arg(long, value_name = "FILE|TEXT")]
    pub pac_file: Option<String>,

    /// Path at which to serve --pac-file, in addition to /wpad.dat. Default: /.
    #[arg(long, value_name = "PATH")]
    pub pac_file_url_path: Option<UrlPath>,

    /// Lowest level to log: DEBUG, INFO, WARNING, ERROR or CRITICAL, in upper or lower case, or its first letter.
    /// Default: INFO.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,

    /// File to append the log to. Default: standard output.
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Maximum number of open files and sockets; raises the soft limit of the process, never lowers it. Default: the
    /// hard limit.
    #[arg(long, value_name = "N")]
    pub open_file_limit: Option<OpenFileLimit>,

    /// File to write the process id to; removed at exit. It must not be a symbolic link. Default: none.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
}
