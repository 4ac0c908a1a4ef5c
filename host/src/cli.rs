//! The command line: flags and their help, no behaviour.
//!
//! A flag that was not given is `None`, so that `config` can use the value in the file. Values have the same types as
//! in `proxy.toml`, so an invalid value causes the same error message in both places. Names may be abbreviated as
//! long as they are unambiguous; if a flag is given twice, the last one counts.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::ca::command::CaArgs;
use crate::config::{
    Backlog, ByteLen, HeaderNames, Hostname, LogLevel, OpenFileLimit, Port, Seconds, UrlPath,
    WorkerCount,
};
use crate::generation::command::CheckArgs;
use crate::web::pac::command::PacArgs;

/// The flags as they were given.
#[derive(Parser, Default)]
#[command(
    name = "proxy",
    about = "A programmable HTTP(S) forward proxy that loads its filters from shared libraries.",
    after_help = AFTER_HELP,
    disable_version_flag = true,
    disable_help_subcommand = true,
    infer_long_args = true,
    args_override_self = true,
    next_line_help = true
)]
pub struct Cli {
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

    /// Print the version and exit.
    #[arg(short = 'v', long)]
    pub version: bool,

    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the executable can do besides serving.
#[derive(Subcommand)]
pub enum Command {
    // The help texts are those of the argument structs.
    #[allow(
        missing_docs,
        reason = "a doc comment here would replace that of CaArgs in the help"
    )]
    Ca(CaArgs),
    #[allow(missing_docs, reason = "as above")]
    Pac(PacArgs),
    #[allow(missing_docs, reason = "as above")]
    Check(CheckArgs),
}

const AFTER_HELP: &str = "\
Exit status:
   0  the proxy stopped normally
   1  a system error, such as a port in use or an unwritable log file
   2  the command line is invalid
  78  the configuration file or a plugin cannot be used";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Bounded;
    use clap::CommandFactory;
    use std::time::Duration;

    fn parse(args: &[&str]) -> Cli {
        Cli::try_parse_from([&["proxy"], args].concat()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refusal(args: &[&str]) -> String {
        match Cli::try_parse_from([&["proxy"], args].concat()) {
            Ok(_) => panic!("{args:?} is accepted"),
            Err(error) => error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    }

    #[test]
    fn is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn unambiguous_abbreviations_are_understood() {
        let cli = parse(&[
            "--host", "::", "--plugin", "a.so:A", "--log-l", "d", "--num=3",
        ]);
        assert_eq!(cli.hostname, Some(Hostname("::".to_owned())));
        assert_eq!(cli.plugins, ["a.so:A"]);
        assert_eq!(cli.log_level, Some(LogLevel::Debug));
        assert_eq!(cli.num_workers, Some(Bounded(3)));
        assert!(refusal(&["--log", "x"]).contains("--log"));
    }

    #[test]
    fn the_last_of_repeated_flags_counts_and_lists_grow() {
        let cli = parse(&[
            "--port",
            "1",
            "--port=2",
            "--plugins",
            "a,b",
            "--plugins",
            "c",
            "--plugin-dir=x",
            "--plugin-dir=y",
        ]);
        assert_eq!(cli.port, Some(Bounded(2)));
        assert_eq!(cli.plugins, ["a,b", "c"]);
        assert_eq!(cli.plugin_dir.len(), 2);
    }

    #[test]
    fn values_have_units() {
        let cli = parse(&[
            "--timeout",
            "0.5",
            "--client-recvbuf-size",
            "64K",
            "--server-recvbuf-size",
            "1M",
        ]);
        assert_eq!(cli.timeout, Some(Seconds(Duration::from_millis(500))));
        assert_eq!(cli.client_recvbuf_size, Some(ByteLen(65536)));
        assert_eq!(cli.server_recvbuf_size, Some(ByteLen(1 << 20)));
    }

    #[test]
    fn a_refused_value_is_named_with_its_flag_and_reason() {
        for (args, line) in [
            (
                ["--port", "70000"],
                "error: invalid value '70000' for '--port <PORT>': must be between 0 and 65535",
            ),
            (
                ["--timeout", "-1"],
                "error: invalid value '-1' for '--timeout <SECONDS>': must be greater than 0 seconds",
            ),
            (
                ["--num-workers", "-1"],
                "error: invalid value '-1' for '--num-workers <N>': must be between 0 and 1024",
            ),
            (
                ["--log-level", "loud"],
                "error: invalid value 'loud' for '--log-level <LEVEL>': is not a log level; use DEBUG, INFO, WARNING, ERROR or CRITICAL, or the first letter",
            ),
        ] {
            assert_eq!(refusal(&args), line);
        }
    }

    #[test]
    fn the_help_names_every_default_and_the_exit_status() {
        let mut command = Cli::command();
        let help = command.render_long_help().to_string();
        for flag in command
            .get_arguments()
            .filter(|flag| flag.get_action().takes_values())
        {
            let text = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let is_list_of_dirs = flag.get_id() == "plugin_dir";
            assert!(
                text.contains("Default") || is_list_of_dirs,
                "{}",
                flag.get_id()
            );
        }
        assert!(help.contains("78  the configuration file"));
    }
}
