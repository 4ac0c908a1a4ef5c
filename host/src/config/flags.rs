//! The command-line flags of the configuration, and their help; no behaviour.
//!
//! Values are kept as they were given, and are checked as those of the same setting in `proxy.toml` are, so what is
//! refused here is refused there in the same words.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Parser;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::document::{Node, Place, Value};
use super::proxy_py::ProxyPyFlags;
use super::value::SecondsOrZero;
use super::{
    Backlog, ByteLen, HeaderNames, Hostname, LogFormat, LogLevel, OpenFileLimit, Port, Seconds,
    UrlPath, WorkerCount,
};

/// The groups of the help.
pub(crate) mod heading {
    pub(crate) const SETTINGS: &str = "Settings and plugins";
    pub(crate) const LISTENERS: &str = "Listeners";
    pub(crate) const LIMITS: &str = "Workers and limits";
    pub(crate) const REQUESTS: &str = "Requests";
    pub(crate) const INTERCEPTION: &str = "TLS interception";
    pub(crate) const WEB_SERVER: &str = "Web server";
    pub(crate) const PROCESS: &str = "Log and process";
    pub(crate) const PROXY_PY: &str = "Flags of proxy.py, for scripts that use them";
}

// No doc comment: clap would use it as the description of the program. The first paragraph of each flag is its line in
// the short help; it ends with the default.
#[derive(Clone, Default, Parser)]
#[allow(missing_docs, reason = "as above")]
pub struct Flags {
    /// Read settings from this file. Default: none.
    ///
    /// The variable PROXY_CONFIG does the same. Other environment variables and flags override what the file says. `proxy config show` prints what is in force.
    #[arg(long, value_name = "FILE", env = "PROXY_CONFIG", hide_env = true, help_heading = heading::SETTINGS)]
    pub config: Option<PathBuf>,

    /// Plugins, in the order of their calls. Default: none.
    ///
    /// Separated by commas or spaces; may be repeated. LIBRARY is a shared library, NAME a plugin in it, which may be
    /// omitted if there is only one. A path such as ./x.so or /opt/x.so means exactly that file; a bare name is searched
    /// for in the plugin directories. Class names of proxy.py, such as proxy.plugin.ShortLinkPlugin, mean the bundled
    /// plugin of that name. Replaces the list in the file.
    #[arg(long, value_name = "LIBRARY:NAME,...", alias = "plugin", help_heading = heading::SETTINGS)]
    pub plugins: Vec<String>,

    /// Search libraries here first; may be repeated. Default: none.
    ///
    /// `plugins` beside the executable and the directory of the executable are always
    /// searched, after these.
    #[arg(long, value_name = "DIR", help_heading = heading::SETTINGS)]
    pub plugin_dir: Vec<PathBuf>,

    /// One setting of one plugin; may be repeated. Default: none.
    ///
    /// VALUE is TOML; anything else is a string.
    #[arg(long, value_name = "NAME.KEY=VALUE", help_heading = heading::SETTINGS)]
    pub plugin_config: Vec<String>,

    /// Address to listen on, or a name such as localhost. Default: ::1.
    ///
    /// :: and 0.0.0.0 are all addresses of this machine.
    #[arg(long, value_name = "ADDRESS", value_parser = checked::<Hostname>, help_heading = heading::LISTENERS)]
    pub hostname: Option<String>,

    /// TCP port to listen on; 0 selects a free port. Default: 8899.
    ///
    /// The log shows which port was selected.
    #[arg(long, value_name = "PORT", value_parser = checked::<Port>, help_heading = heading::LISTENERS)]
    pub port: Option<String>,

    /// Connections that may wait to be accepted. Default: 4096.
    ///
    /// The kernel may lower it (net.core.somaxconn).
    #[arg(long, value_name = "N", value_parser = checked::<Backlog>, help_heading = heading::LISTENERS)]
    pub backlog: Option<String>,

    /// Certificate: clients then speak TLS to the proxy. Default: none.
    ///
    /// PEM file with the certificate of the listener, followed by its chain; clients use https:// for the proxy.
    /// Requires --key-file. Reloaded on SIGHUP.
    #[arg(long, value_name = "FILE", help_heading = heading::LISTENERS)]
    pub cert_file: Option<PathBuf>,

    /// Private key of --cert-file (PEM). Default: none.
    #[arg(long, value_name = "FILE", help_heading = heading::LISTENERS)]
    pub key_file: Option<PathBuf>,

    /// Worker threads; 0 is one per CPU core. Default: 0.
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        value_parser = checked::<WorkerCount>,
        help_heading = heading::LIMITS
    )]
    pub num_workers: Option<String>,

    /// Close a client connection idle for so long. Default: 10.
    ///
    /// Seconds, with decimals if needed, or a duration such as 500ms, 10s or 5m.
    #[arg(
        long,
        value_name = "SECONDS",
        allow_hyphen_values = true,
        value_parser = checked::<Seconds>,
        help_heading = heading::LIMITS
    )]
    pub timeout: Option<String>,

    /// Time for open exchanges to end at shutdown. Default: 30.
    ///
    /// Seconds, or a duration such as 5m. Exchanges and tunnels that have not ended by then are cut off; 0 cuts them off
    /// at once.
    #[arg(
        long,
        value_name = "SECONDS",
        allow_hyphen_values = true,
        value_parser = checked::<SecondsOrZero>,
        help_heading = heading::LIMITS
    )]
    pub drain_timeout: Option<String>,

    /// Most bytes read from a client at once. Default: 1M.
    ///
    /// A number of bytes, or one with K, M or G.
    #[arg(long, value_name = "BYTES", value_parser = checked::<ByteLen>, help_heading = heading::LIMITS)]
    pub client_recvbuf_size: Option<String>,

    /// Most bytes read from an upstream server at once. Default: 1M.
    ///
    /// A number of bytes, or one with K, M or G.
    #[arg(long, value_name = "BYTES", value_parser = checked::<ByteLen>, help_heading = heading::LIMITS)]
    pub server_recvbuf_size: Option<String>,

    /// Most open files and sockets. Default: the hard limit.
    ///
    /// Raises the soft limit of the process, never lowers it. Above the hard limit it needs root (CAP_SYS_RESOURCE).
    #[arg(long, value_name = "N", value_parser = checked::<OpenFileLimit>, help_heading = heading::LIMITS)]
    pub open_file_limit: Option<String>,

    /// Do not forward requests: web server only. Default: forward.
    #[arg(long, help_heading = heading::REQUESTS)]
    pub disable_http_proxy: bool,

    /// Request headers that are not forwarded. Default: none.
    ///
    /// Separated by commas; may be repeated.
    #[arg(long, value_name = "NAME,...", value_parser = checked::<HeaderNames>, help_heading = heading::REQUESTS)]
    pub disable_headers: Vec<String>,

    /// Name and password that clients must send. Default: none.
    ///
    /// Use the environment variable PROXY_BASIC_AUTH to keep it out of the process list.
    // Checked with the other settings: errors there do not repeat it.
    #[arg(long, value_name = "USER:PASSWORD", help_heading = heading::REQUESTS)]
    pub basic_auth: Option<String>,

    /// Certificates of upstreams to trust as well. Default: none.
    ///
    /// PEM file; may be repeated. The certificates of the system are trusted as well.
    #[arg(long, value_name = "FILE", help_heading = heading::REQUESTS)]
    pub ca_file: Vec<PathBuf>,

    /// CA certificate with which to intercept TLS. Default: none.
    ///
    /// PEM file. The proxy then decrypts the TLS traffic of its clients, which have to trust this CA. Requires
    /// --ca-key-file and --ca-signing-key-file; `proxy ca init` creates all three. Without it, TLS is relayed without
    /// decryption.
    #[arg(long, value_name = "FILE", help_heading = heading::INTERCEPTION)]
    pub ca_cert_file: Option<PathBuf>,

    /// Private key of --ca-cert-file (PEM). Default: none.
    #[arg(long, value_name = "FILE", help_heading = heading::INTERCEPTION)]
    pub ca_key_file: Option<PathBuf>,

    /// Private key for intercepted hosts (PEM). Default: none.
    #[arg(long, value_name = "FILE", help_heading = heading::INTERCEPTION)]
    pub ca_signing_key_file: Option<PathBuf>,

    /// Directory for their certificates. Default: ~/.proxy.
    #[arg(long, value_name = "DIR", help_heading = heading::INTERCEPTION)]
    pub ca_cert_dir: Option<PathBuf>,

    /// Answer requests to the proxy itself. Default: refuse them.
    ///
    /// Requests such as http://localhost:8899/path are answered with the routes of plugins, static files
    /// (--enable-static-server) and the PAC file (--pac-file).
    #[arg(long, help_heading = heading::WEB_SERVER)]
    pub enable_web_server: bool,

    /// Serve files; enables the web server. Default: no files.
    ///
    /// They are those in --static-server-dir.
    #[arg(long, help_heading = heading::WEB_SERVER)]
    pub enable_static_server: bool,

    /// Their directory. Default: `public` beside the executable.
    #[arg(long, value_name = "DIR", help_heading = heading::WEB_SERVER)]
    pub static_server_dir: Option<PathBuf>,

    /// Serve this PAC file; enables the web server. Default: none.
    ///
    /// PAC is proxy auto-configuration. If no such file exists and the value contains FindProxyForURL, the value is the
    /// text to serve. `proxy pac generate` creates one.
    #[arg(long, value_name = "FILE|TEXT", help_heading = heading::WEB_SERVER)]
    pub pac_file: Option<String>,

    /// Path of the PAC file, besides /wpad.dat. Default: /.
    #[arg(long, value_name = "PATH", value_parser = checked::<UrlPath>, help_heading = heading::WEB_SERVER)]
    pub pac_file_url_path: Option<String>,

    /// DEBUG, INFO, WARNING, ERROR or CRITICAL. Default: INFO.
    ///
    /// The lowest level to log, in upper or lower case, or its first letter.
    #[arg(long, value_name = "LEVEL", value_parser = checked::<LogLevel>, help_heading = heading::PROCESS)]
    pub log_level: Option<String>,

    /// File to append the log to. Default: standard output.
    ///
    /// - is standard output, too.
    #[arg(long, value_name = "FILE", help_heading = heading::PROCESS)]
    pub log_file: Option<PathBuf>,

    /// Layout of log lines. Default: time, level, process, place, message.
    ///
    /// json, or a format of Python's logging such as "%(levelname)s %(message)s".
    #[arg(long, value_name = "FORMAT", value_parser = checked::<LogFormat>, help_heading = heading::PROCESS)]
    pub log_format: Option<String>,

    /// File to write the process id to. Default: none.
    ///
    /// Removed at exit. It must not be a symbolic link.
    #[arg(long, value_name = "FILE", help_heading = heading::PROCESS)]
    pub pid_file: Option<PathBuf>,

    /// File to write the ports to, one per line. Default: none.
    ///
    /// For --port 0. Written once the ports are bound, that of the first listener first, and removed at exit.
    #[arg(long, value_name = "FILE", help_heading = heading::PROCESS)]
    pub port_file: Option<PathBuf>,

    /// Unix socket for commands such as `proxy status`. Default: on.
    ///
    /// Only this user and root may use it. An empty PATH turns it off. Default: PORT.sock in $XDG_RUNTIME_DIR/proxy, or
    /// in ~/.proxy/run.
    #[arg(
        long,
        value_name = "PATH",
        value_parser = OsStringValueParser::new().map(PathBuf::from),
        help_heading = heading::PROCESS
    )]
    pub control_socket: Option<PathBuf>,

    #[command(flatten)]
    pub proxy_py: ProxyPyFlags,
}

/// The text, if it is a value of this type.
pub(super) fn checked<T: FromStr>(text: &str) -> Result<String, T::Err> {
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
        self.put_listeners(&mut given);
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
        given.text("log_format", "--log-format", &self.log_format);
        given.text(
            "open_file_limit",
            "--open-file-limit",
            &self.open_file_limit,
        );
        given.path("pid_file", "--pid-file", &self.pid_file);
        given.path("port_file", "--port-file", &self.port_file);
        given.path(
            "server.control_socket",
            "--control-socket",
            &self.control_socket,
        );
        given.paths("plugin_dirs", "--plugin-dir", &self.plugin_dir);
        given.paths("tls.upstream.extra_ca_files", "--ca-file", &self.ca_file);
        self.put_proxy_py(&mut given);
        match given.not_text.is_empty() {
            true => Ok(given.document),
            false => Err(given.not_text),
        }
    }
}

/// The flags that were given.
pub(super) struct Given {
    document: Node,
    not_text: Vec<NotText>,
}

impl Given {
    pub(super) fn put(&mut self, key: &str, flag: &'static str, value: Value) {
        let path: Vec<&str> = key.split('.').collect();
        let place = Place::Flag(flag);
        self.document.put(&path, Node { place, value });
    }

    pub(super) fn text(&mut self, key: &str, flag: &'static str, text: &Option<String>) {
        if let Some(text) = text {
            self.put(key, flag, Value::Text(text.clone()));
        }
    }

    pub(super) fn switch(&mut self, key: &str, flag: &'static str, is_given: bool) {
        if is_given {
            self.put(key, flag, Value::Boolean(true));
        }
    }

    pub(super) fn path(&mut self, key: &str, flag: &'static str, path: &Option<PathBuf>) {
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

    pub(super) fn utf8(&mut self, flag: &'static str, path: &Path) -> Option<String> {
        let text = path.to_str().map(str::to_owned);
        if text.is_none() {
            self.not_text.push(NotText(flag));
        }
        text
    }
}
