//! Flags, and names of classes, that are there because scripts written for proxy.py use them.
//!
//! What they ask for happens anyway, or is another setting, or comes with a later version. What a user would miss is
//! reported at the start; mere tuning is accepted in silence.

mod listeners;

use std::path::PathBuf;

use clap::Args;

use super::document::Value;
use super::flags::{Given, checked, heading};
use super::{ByteLen, Flags, Hostname, Port, UrlPath, ValueError, WorkerCount};

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = heading::PROXY_PY)]
#[allow(missing_docs, reason = "the help texts are their documentation")]
pub struct ProxyPyFlags {
    /// No effect: no connection needs a thread. Default: on.
    #[arg(long)]
    pub threadless: bool,

    /// No effect: no connection needs a thread. Default: off.
    #[arg(long)]
    pub threaded: bool,

    /// No effect: workers accept connections themselves. Default: 1.
    #[arg(long, value_name = "0|1", num_args = 0..=1, default_missing_value = "1", value_parser = ["0", "1"], hide_possible_values = true)]
    pub local_executor: Option<String>,

    /// The same as --num-workers, which overrides it. Default: 0.
    #[arg(long, value_name = "N", value_parser = checked::<WorkerCount>)]
    pub num_acceptors: Option<String>,

    /// Further addresses to listen on, at each port. Default: none.
    ///
    /// Separated by spaces; may be repeated.
    #[arg(long, value_name = "ADDRESS", value_parser = checked::<Hostname>)]
    pub hostnames: Vec<String>,

    /// Further ports to listen on, at each address. Default: none.
    ///
    /// Separated by spaces; may be repeated. 0 selects a free port.
    #[arg(long, value_name = "PORT", value_parser = checked::<Port>)]
    pub ports: Vec<String>,

    /// Unix socket to listen on, in place of --port. Default: none.
    #[arg(long, value_name = "PATH")]
    pub unix_socket_path: Option<PathBuf>,

    /// Every client sends a PROXY protocol header. Default: off.
    ///
    /// Whoever can connect chooses the client address then: listen where only the load balancer can connect, or use
    /// `proxy_protocol_from` in [[listeners]].
    #[arg(long)]
    pub enable_proxy_protocol: bool,

    /// No effect: the system chooses. Default: none.
    #[arg(long, value_name = "N", value_parser = checked::<ByteLen>)]
    pub max_sendbuf_size: Option<String>,

    /// Compress static files longer than this. Default: 1023.
    ///
    /// A number of bytes, or one with K, M or G.
    #[arg(long, value_name = "N", value_parser = checked::<ByteLen>)]
    pub min_compression_length: Option<String>,

    /// Directory that contains --ca-cert-dir. Default: ~/.proxy.
    ///
    /// The certificates of intercepted hosts are stored in `certificates` in it, unless --ca-cert-dir is given.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Plugin to check credentials, called first. Default: none.
    ///
    /// Written as in --plugins. --basic-auth is checked as well, if it is given.
    #[arg(long, value_name = "LIBRARY:NAME")]
    pub auth_plugin: Option<String>,

    /// Only proxy.http.HttpProtocolHandler. Default: that.
    #[arg(long, value_name = "CLASS", value_parser = work_class)]
    pub work_klass: Option<String>,

    /// No effect: openssl is not needed. Default: none.
    #[arg(long, value_name = "FILE")]
    pub openssl: Option<PathBuf>,

    /// No effect: connections are always reused. Default: on.
    #[arg(long)]
    pub enable_conn_pool: bool,

    /// Enable the web server, for ReverseProxyPlugin. Default: off.
    #[arg(long)]
    pub enable_reverse_proxy: bool,

    /// No effect: `host` of each route says it. Default: rewrite.
    ///
    /// Routes of the plugin ReverseProxyPlugin.
    #[arg(long)]
    pub rewrite_host_header: bool,

    /// No effect: plugins can always subscribe. Default: on.
    #[arg(long)]
    pub enable_events: bool,

    /// Web server only: no DevTools endpoint yet. Default: off.
    #[arg(long)]
    pub enable_devtools: bool,

    /// Path for the DevTools endpoint to come. Default: /devtools.
    #[arg(long, value_name = "PATH", value_parser = checked::<UrlPath>)]
    pub devtools_ws_path: Option<String>,

    /// Web server only: no dashboard yet. Default: off.
    #[arg(long)]
    pub enable_dashboard: bool,

    /// Web server only: no metrics yet. Default: off.
    #[arg(long)]
    pub enable_metrics: bool,

    /// Path for the metrics to come. Default: /metrics.
    #[arg(long, value_name = "PATH", value_parser = checked::<UrlPath>)]
    pub metrics_path: Option<String>,
}

/// The class that serves connections is not a choice.
fn work_class(class: &str) -> Result<String, &'static str> {
    match class.rsplit('.').next() {
        Some("HttpProtocolHandler") => Ok(class.to_owned()),
        _ => Err(
            "must be proxy.http.HttpProtocolHandler; to change what is done with requests, write a plugin",
        ),
    }
}

/// A class of proxy.py that is part of this proxy, not a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BuiltIn {
    ForwardProxy,
    WebServer,
    BasicAuth,
    DevTools,
    Dashboard,
    Metrics,
}

const BUILT_IN: [(&str, BuiltIn); 9] = [
    ("HttpProxyPlugin", BuiltIn::ForwardProxy),
    ("HttpWebServerPlugin", BuiltIn::WebServer),
    ("HttpWebServerPacFilePlugin", BuiltIn::WebServer),
    ("ReverseProxy", BuiltIn::WebServer),
    ("AuthPlugin", BuiltIn::BasicAuth),
    ("DevtoolsProtocolPlugin", BuiltIn::DevTools),
    ("ProxyDashboard", BuiltIn::Dashboard),
    ("InspectTrafficPlugin", BuiltIn::Dashboard),
    ("MetricsWebServerPlugin", BuiltIn::Metrics),
];

impl BuiltIn {
    /// What a name such as `proxy.http.proxy.HttpProxyPlugin` means. Names that end with `Plugin` need no module.
    pub(super) fn named(spec: &str) -> Option<Self> {
        let (module, class) = spec.rsplit_once('.').unwrap_or(("", spec));
        let is_of_proxy_py = match module {
            "" => class.ends_with("Plugin"),
            // Where its examples are.
            "proxy.plugin" => false,
            _ => module == "proxy" || module.starts_with("proxy."),
        };
        let (_, meaning) = BUILT_IN
            .into_iter()
            .find(|(name, _)| is_of_proxy_py && *name == class)?;
        Some(meaning)
    }
}

impl Flags {
    /// The plugins that `--plugins` lists, without what is built in.
    pub(super) fn listed_plugins(&self) -> impl Iterator<Item = &str> {
        specs(&self.plugins).filter(|spec| BuiltIn::named(spec).is_none())
    }

    /// The plugin of `--auth-plugin`, unless it is the one that `--basic-auth` stands for.
    pub(super) fn auth_plugin(&self) -> Option<&str> {
        let plugin = self.proxy_py.auth_plugin.as_deref().map(str::trim);
        plugin.filter(|spec| !spec.is_empty() && BuiltIn::named(spec).is_none())
    }

    /// What was asked for and does not exist yet, each in one line for the log of the start.
    pub fn notices(&self) -> Vec<&'static str> {
        let of = &self.proxy_py;
        let is_named =
            |meaning| specs(&self.plugins).any(|spec| BuiltIn::named(spec) == Some(meaning));
        let asked = [
            (
                of.enable_devtools || is_named(BuiltIn::DevTools),
                "--enable-devtools only enables the web server: this version has no DevTools endpoint yet",
            ),
            (
                of.enable_dashboard || is_named(BuiltIn::Dashboard),
                "--enable-dashboard only enables the web server: this version has no dashboard yet",
            ),
            (
                of.enable_metrics || is_named(BuiltIn::Metrics),
                "--enable-metrics only enables the web server: this version has no metrics endpoint yet",
            ),
        ];
        let asked = asked.into_iter().filter(|(is_asked, _)| *is_asked);
        asked.map(|(_, notice)| notice).collect()
    }

    /// The settings that these flags and names stand for.
    pub(super) fn put_proxy_py(&self, given: &mut Given) {
        let of = &self.proxy_py;
        for (flag, is_given) in [
            ("--enable-reverse-proxy", of.enable_reverse_proxy),
            ("--enable-devtools", of.enable_devtools),
            ("--enable-dashboard", of.enable_dashboard),
            ("--enable-metrics", of.enable_metrics),
        ] {
            given.switch("web_server.enable", flag, is_given);
        }
        if self.num_workers.is_none() {
            given.text("num_workers", "--num-acceptors", &of.num_acceptors);
        }
        if self.ca_cert_dir.is_none() {
            let dir = of.data_dir.as_ref().map(|dir| dir.join("certificates"));
            given.path("interception.ca_cert_dir", "--data-dir", &dir);
        }
        // There, it is the longest that is not compressed; here, the shortest that is.
        let shortest = of.min_compression_length.as_deref().and_then(one_more);
        if let Some(shortest) = shortest {
            let key = "web_server.static_files.compress_from";
            given.put(key, "--min-compression-length", Value::Integer(shortest));
        }
        for built_in in specs(&self.plugins).filter_map(BuiltIn::named) {
            match built_in {
                BuiltIn::ForwardProxy => {
                    given.put("disable_http_proxy", "--plugins", Value::Boolean(false));
                }
                BuiltIn::BasicAuth => {}
                _ => given.switch("web_server.enable", "--plugins", true),
            }
        }
    }
}

/// The entries of a list of plugins.
fn specs(flags: &[String]) -> impl Iterator<Item = &str> {
    let specs = flags.iter().flat_map(|flag| flag.split(',')).map(str::trim);
    specs.filter(|spec| !spec.is_empty())
}

fn one_more(len: &str) -> Option<i64> {
    let len: Result<ByteLen, ValueError> = len.parse();
    i64::try_from(len.ok()?.0).ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn class_names_of_what_is_built_in_are_known() {
        for (spec, meaning) in [
            ("HttpProxyPlugin", Some(BuiltIn::ForwardProxy)),
            ("proxy.HttpProxyPlugin", Some(BuiltIn::ForwardProxy)),
            (
                "proxy.http.proxy.HttpProxyPlugin",
                Some(BuiltIn::ForwardProxy),
            ),
            (
                "proxy.http.server.HttpWebServerPlugin",
                Some(BuiltIn::WebServer),
            ),
            (
                "proxy.http.server.reverse.ReverseProxy",
                Some(BuiltIn::WebServer),
            ),
            ("proxy.dashboard.ProxyDashboard", Some(BuiltIn::Dashboard)),
            ("ReverseProxy", None),
            ("libx.so:HttpProxyPlugin", None),
            ("my_app.HttpProxyPlugin", None),
            ("proxy.plugin.ReverseProxyPlugin", None),
            ("proxy.plugin.ReverseProxy", None),
        ] {
            assert_eq!(BuiltIn::named(spec), meaning, "{spec}");
        }
    }

    #[test]
    fn what_does_not_exist_yet_is_reported_once() {
        let notices = |args: &[&str]| {
            let flags = Flags::try_parse_from([&["proxy"], args].concat());
            flags.unwrap_or_else(|error| panic!("{error}")).notices()
        };
        assert_eq!(
            notices(&["--enable-events", "--threaded", "--openssl", "x"]),
            [""; 0]
        );
        let all = [
            "--enable-devtools",
            "--enable-dashboard",
            "--enable-metrics",
        ];
        assert_eq!(notices(&all).len(), 3);
        let class = "proxy.http.inspector.devtools.DevtoolsProtocolPlugin";
        let notices = notices(&["--enable-devtools", "--plugins", class]);
        assert_eq!(notices.len(), 1);
        assert!(notices[0].starts_with("--enable-devtools "), "{notices:?}");
    }
}
