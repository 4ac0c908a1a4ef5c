//! The command-line flags of the configuration, and their help; no behaviour.
//!
//! Values are kept as they were given, and are checked as those of the same setting in `proxy.toml` are, so what is
//! refused here is refused there in the same words.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Parser;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::document::{Node, Place, Value};
use super::value::SecondsOrZero;
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
    #[arg(long, value_name = "ADDRESS", value_parser = checked::<Hostname>)]
    pub hostname: Option<String>,

    /// TCP port to listen on; 0 selects a free port, which the log shows. Default: 8899.
    #[arg(long, value_name = "PORT", value_parser = checked::<Port>)]
    pub port: Option<String>,

    /// Number of worker threads; 0 for one per CPU core. Default: the number of CPU cores.
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = checked::<WorkerCount>)]
    pub num_workers: Option<String>,

    /// Accepted for compatibility and ignored: workers serve connections without a thread for each.
    #[arg(long)]
    pub threadless: bool,

    /// Number of connections that may wait to be accepted; the kernel may lower it. Default: 4096.
    #[arg(long, value_name = "N", value_parser = checked::<Backlog>)]
    pub backlog: Option<String>,

    /// Seconds after which an idle client connection is closed; decimals are allowed. Default: 10.
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true, value_parser = checked::<Seconds>)]
    pub timeout: Option<String>,

    /// Seconds that exchanges and tunnels may take to end when the proxy stops; then they are cut off. 0 cuts them off
    /// at once. Default: 30.
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true, value_parser = checked::<SecondsOrZero>)]
    pub drain_timeout: Option<String>,

    /// Maximum number of bytes read from a client at once; accepts K, M and G. Default: 1M.
    #[arg(long, value_name = "BYTES", value_parser = checked::<ByteLen>)]
    pub client_recvbuf_size: Option<String>,

    /// Maximum number of bytes read from an upstream server at once; accepts K, M and G. Default: 1M.
    #[arg(long, value_name = "BYTES", value_parser = checked::<ByteLen>)]
    pub server_recvbuf_size: Option<String>,

    /// Request headers to remove before forwarding, separated by commas, may be repeated. Default: none.
    #[arg(long, value_name = "NAME,...", value_parser = checked::<HeaderNames>)]
    pub disable_headers: Vec<String>,

    /// Require this user name and password from every client. Use the environment variable to keep it out of the
    /// process list. Default: no authentication.
    // Checked with the other settings: errors there do not repeat it.
    #[arg(long, value_name = "USER:PASSWORD")]
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
    #[arg(long, value_name = "PATH", value_parser = checked::<UrlPath>)]
    pub pac_file_url_path: Option<String>,

    /// Lowest level to log: DEBUG, INFO, WARNING, ERROR or CRITICAL, in upper or lower case, or its first letter.
    /// Default: INFO.
    #[arg(long, value_name = "LEVEL", value_parser = checked::<LogLevel>)]
    pub log_level: Option<String>,

    /// File to append the log to. Default: standard output.
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Maximum number of open files and sockets; raises the soft limit of the process, never lowers it. Default: the
    /// hard limit.
    #[arg(long, value_name = "N", value_parser = checked::<OpenFileLimit>)]
    pub open_file_limit: Option<String>,

    /// File to write the process id to; removed at exit. It must not be a symbolic link. Default: none.
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// Unix socket for `proxy status`, `reload`, `reopen` and `stop`; only this user and root may use it. An empty PATH
    /// turns it off. Default: PORT.sock in $XDG_RUNTIME_DIR/proxy, or in ~/.proxy/run.
    #[arg(long, value_name = "PATH", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub control_socket: Option<PathBuf>,
}

/// The text, if it is a value of this type.
fn checked<T: FromStr>(text: &str) -> Result<String, T::Err> {
    text.parse::<T>().map(|_| text.to_owned())
}

/// Flags whose values cannot be written in the file.
pub(super) struct NotText(pub(super) &'static str);

impl Flags {
    /// What the flags say: lists that come before those of the file, and everything else, which replaces what the file
    /// says. `--plugins` and `--plugin-config` are not in it.
    ///
    /// # Errors
    /// The flags whose values are not UTF-8.
    pub(super) fn document(&self) -> Result<Node, Vec<NotText>> {
        let mut given = Given {
            document: Node::empty_table(Place::Default),
            not_text: Vec::new(),
        };
        given.text("hostname", "--hostname", &self.hostname);
        given.text("port", "--port", &self.port);
        given.text("num_workers", "--num-workers", &self.num_workers);
        given.text("backlog", "--backlog", &self.backlog);
        given.text("timeouts.idle", "--timeout", &self.timeout);
        given.text(
            "server.drain_timeout",
            "--drain-timeout",
            &self.drain_timeout,
        );
        given.text(
            "client_recvbuf_size",
            "--client-recvbuf-size",
            &self.client_recvbuf_size,
        );
        given.text(
            "server_recvbuf_size",
            "--server-recvbuf-size",
            &self.server_recvbuf_size,
        );
        let headers = (!self.disable_headers.is_empty()).then(|| self.disable_headers.join(","));
        given.text("disable_headers", "--disable-headers", &headers);
        given.text("basic_auth", "--basic-auth", &self.basic_auth);
        given.path("tls.cert_file", "--cert-file", &self.cert_file);
        given.path("tls.key_file", "--key-file", &self.key_file);
        given.path(
            "interception.ca_cert_file",
            "--ca-cert-file",
            &self.ca_cert_file,
        );
        given.path(
            "interception.ca_key_file",
            "--ca-key-file",
            &self.ca_key_file,
        );
        given.path(
            "interception.ca_signing_key_file",
            "--ca-signing-key-file",
            &self.ca_signing_key_file,
        );
        given.path(
            "interception.ca_cert_dir",
            "--ca-cert-dir",
            &self.ca_cert_dir,
        );
        given.switch(
            "web_server.enable",
            "--enable-web-server",
            self.enable_web_server,
        );
        given.switch(
            "disable_http_proxy",
            "--disable-http-proxy",
            self.disable_http_proxy,
        );
        given.switch(
            "web_server.static_files.enable",
            "--enable-static-server",
            self.enable_static_server,
        );
        given.path(
            "web_server.static_files.dir",
            "--static-server-dir",
            &self.static_server_dir,
        );
        given.text("web_server.pac.file", "--pac-file", &self.pac_file);
        given.text(
            "web_server.pac.url_path",
            "--pac-file-url-path",
            &self.pac_file_url_path,
        );
        given.text("log_level", "--log-level", &self.log_level);
        given.path("log_file", "--log-file", &self.log_file);
        given.text(
            "open_file_limit",
            "--open-file-limit",
            &self.open_file_limit,
        );
        given.path("pid_file", "--pid-file", &self.pid_file);
        given.path(
            "server.control_socket",
            "--control-socket",
            &self.control_socket,
        );
        given.paths("plugin_dirs", "--plugin-dir", &self.plugin_dir);
        given.paths("tls.upstream.extra_ca_files", "--ca-file", &self.ca_file);
        match given.not_text.is_empty() {
            true => Ok(given.document),
            false => Err(given.not_text),
        }
    }
}

/// The flags that were given.
struct Given {
    document: Node,
    not_text: Vec<NotText>,
}

impl Given {
    fn put(&mut self, key: &str, flag: &'static str, value: Value) {
        let path: Vec<&str> = key.split('.').collect();
        let place = Place::Flag(flag);
        self.document.put(&path, Node { place, value });
    }

    fn text(&mut self, key: &str, flag: &'static str, text: &Option<String>) {
        if let Some(text) = text {
            self.put(key, flag, Value::Text(text.clone()));
        }
    }

    fn switch(&mut self, key: &str, flag: &'static str, is_given: bool) {
        if is_given {
            self.put(key, flag, Value::Boolean(true));
        }
    }

    fn path(&mut self, key: &str, flag: &'static str, path: &Option<PathBuf>) {
        if let Some(path) = path.as_deref().and_then(|path| self.utf8(flag, path)) {
            self.put(key, flag, Value::String(path));
        }
    }

    fn paths(&mut self, key: &str, flag: &'static str, paths: &[PathBuf]) {
        let paths = paths.iter().filter_map(|path| self.utf8(flag, path));
        let paths: Vec<Node> = paths
            .map(|path| Node {
                place: Place::Flag(flag),
                value: Value::String(path),
            })
            .collect();
        if !paths.is_empty() {
            self.put(key, flag, Value::Array(paths));
        }
    }

    fn utf8(&mut self, flag: &'static str, path: &Path) -> Option<String> {
        let text = path.to_str().map(str::to_owned);
        if text.is_none() {
            self.not_text.push(NotText(flag));
        }
        text
    }
}
