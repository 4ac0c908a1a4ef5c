//! What an operator sees at the start on a terminal: how to use the proxy, what is loaded, and what to be careful about.
//!
//! It goes to standard output, and only if that is a terminal. The warnings are also in the log, unless the log goes to the
//! same terminal.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::listen::Bound;
use crate::config::ListenerKind;
use crate::generation::Generation;
use crate::privileges;
use crate::telemetry::{self, LogSink};

/// Shows the banner, or logs its warnings.
pub(super) fn show(generation: &Generation, bound: &[Arc<Bound>], log: &LogSink) {
    let banner = Banner::new(generation, bound);
    let is_terminal = io::stdout().is_terminal();
    let is_log_here = generation.config.log.file.is_none();
    if !is_terminal || !is_log_here {
        banner.log_warnings();
    }
    match (is_terminal, is_log_here) {
        (false, _) => {}
        // Behind the lines of the log.
        (true, true) => log.send(banner.to_string().into_bytes()),
        // If it cannot be shown, the log has what matters.
        (true, false) => drop(io::stdout().write_all(banner.to_string().as_bytes())),
    }
}

/// Logs what an operator should know of a generation that a reload has made.
pub(super) fn log_warnings(generation: &Generation, bound: &[Arc<Bound>]) {
    Banner::new(generation, bound).log_warnings();
}

/// An address at which clients connect.
#[derive(Clone, Copy, Debug)]
struct Entrance {
    address: SocketAddr,
    kind: ListenerKind,
    /// Clients have to authenticate, or a plugin decides about them.
    is_guarded: bool,
}

/// What the banner shows.
#[derive(Debug, Default)]
struct Banner {
    entrances: Vec<Entrance>,
    user: Option<String>,
    plugins: Vec<String>,
    is_intercepting: bool,
    has_web_server: bool,
    forwards: bool,
    is_coloured: bool,
    /// The process stays one of root.
    is_root: bool,
}

impl Banner {
    fn new(generation: &Generation, bound: &[Arc<Bound>]) -> Self {
        let config = &generation.config;
        let mut entrances = Vec::new();
        for part in &generation.listeners {
            let own = bound.iter().filter(|bound| bound.id == part.id);
            entrances.extend(
                own.flat_map(|bound| &bound.addresses)
                    .map(|address| Entrance {
                        address: *address,
                        kind: part.config.kind,
                        is_guarded: config.basic_auth.is_some() || part.chain.may_reject_clients(),
                    }),
            );
        }
        Self {
            entrances,
            user: config
                .basic_auth
                .as_ref()
                .map(|credential| credential.user().to_owned()),
            plugins: generation
                .plugin_names()
                .iter()
                .map(|name| short(name))
                .collect(),
            is_intercepting: generation.interception.is_some(),
            has_web_server: generation.listeners.iter().any(|part| part.web.is_some()),
            forwards: !config.disable_http_proxy,
            is_coloured: telemetry::is_colour_wanted(),
            is_root: privileges::is_root() && generation.identity.is_none(),
        }
    }

    /// The addresses that other machines can reach and where everybody may use the proxy.
    fn open_addresses(&self) -> Vec<String> {
        let entrances = self.entrances.iter();
        let open = entrances.filter(|entrance| {
            self.forwards
                && !entrance.is_guarded
                && !entrance.address.ip().to_canonical().is_loopback()
        });
        open.map(|entrance| entrance.address.to_string()).collect()
    }

    fn warning(&self) -> Option<String> {
        let open = self.open_addresses();
        (!open.is_empty()).then(|| {
            format!(
                "open to the network without authentication: whoever reaches {} can use this proxy, unless a plugin or a \
                 firewall prevents it; set --basic-auth, or --hostname 127.0.0.1 for clients on this machine only",
                open.join(", ")
            )
        })
    }

    fn warnings(&self) -> Vec<String> {
        let as_root = "running as root; set user in [server] to serve as another user once the ports are bound";
        let as_root = self.is_root.then(|| as_root.to_owned());
        self.warning().into_iter().chain(as_root).collect()
    }

    fn log_warnings(&self) {
        for warning in self.warnings() {
            tracing::warn!("{warning}");
        }
    }
}

/// The name of a plugin in `libx.so:Name 1.0.0 from /path/libx.so`.
fn short(name: &str) -> String {
    let word = name.split_whitespace().next().unwrap_or(name);
    word.rsplit(':').next().unwrap_or(word).to_owned()
}

impl Entrance {
    /// The URL for clients on this machine.
    fn url(&self) -> String {
        let ip = match self.address.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let scheme = match self.kind {
            ListenerKind::Https => "https",
            ListenerKind::Socks5 => "socks5h",
            ListenerKind::Http | ListenerKind::HttpAndSocks5 => "http",
        };
        format!("{scheme}://{}", SocketAddr::new(ip, self.address.port()))
    }
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        writeln!(f, "\n  proxy {version}, ready; Ctrl-C stops it\n")?;
        for url in self.entrances.iter().map(Entrance::url) {
            match (self.forwards, url.starts_with("socks5h:")) {
                (false, _) => {}
                (true, true) => writeln!(f, "    export all_proxy={url}")?,
                (true, false) => writeln!(f, "    export http_proxy={url} https_proxy={url}")?,
            }
            if self.forwards {
                writeln!(f, "    curl -x {url} http://example.com/\n")?;
            }
        }
        if let Some(user) = &self.user {
            writeln!(f, "    clients       authenticate as {user}")?;
        }
        if !self.plugins.is_empty() {
            writeln!(f, "    plugins       {}", self.plugins.join(", "))?;
        }
        if self.is_intercepting {
            writeln!(
                f,
                "    interception  on; clients must trust the CA: http://proxy.local/ through the proxy"
            )?;
        }
        if self.has_web_server
            && let Some(entrance) = self.entrances.first()
        {
            writeln!(f, "    web server    {}/", entrance.url())?;
        }
        for warning in self.warnings() {
            let (begin, end) = match self.is_coloured {
                true => ("\x1b[33m", "\x1b[0m"),
                false => ("", ""),
            };
            writeln!(f, "\n  {begin}warning{end}: {warning}")?;
        }
        f.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entrance(address: &str, kind: ListenerKind, is_guarded: bool) -> Entrance {
        Entrance {
            address: address.parse().unwrap(),
            kind,
            is_guarded,
        }
    }

    #[test]
    fn the_banner_shows_how_to_use_the_proxy() {
        let banner = Banner {
            entrances: vec![entrance("[::1]:8899", ListenerKind::Http, true)],
            user: Some("marianne".to_owned()),
            plugins: vec![short(
                "libx.so:FilterByUpstreamHost 1.0.0 from /opt/libx.so",
            )],
            is_intercepting: true,
            has_web_server: true,
            forwards: true,
            is_coloured: false,
            is_root: false,
        };
        let text = banner.to_string();
        for line in [
            "    export http_proxy=http://[::1]:8899 https_proxy=http://[::1]:8899",
            "    curl -x http://[::1]:8899 http://example.com/",
            "    clients       authenticate as marianne",
            "    plugins       FilterByUpstreamHost",
            "    web server    http://[::1]:8899/",
        ] {
            assert!(
                text.lines().any(|written| written == line),
                "{line}\n{text}"
            );
        }
        assert!(!text.contains("warning"), "{text}");
    }

    #[test]
    fn warns_if_everybody_can_use_the_proxy() {
        let open = |address, is_guarded, forwards| {
            Banner {
                entrances: vec![entrance(address, ListenerKind::Http, is_guarded)],
                forwards,
                ..Banner::default()
            }
            .warning()
        };
        for address in ["0.0.0.0:8899", "[::]:8899", "192.0.2.1:8899"] {
            let warning = open(address, false, true).unwrap_or_default();
            assert!(
                warning.contains(&format!("whoever reaches {address} can")),
                "{warning}"
            );
            assert_eq!(open(address, true, true), None);
            assert_eq!(open(address, false, false), None);
        }
        for address in ["127.0.0.1:8899", "[::1]:8899", "[::ffff:127.0.0.1]:8899"] {
            assert_eq!(open(address, false, true), None, "{address}");
        }
    }

    #[test]
    fn urls_are_those_for_clients_on_this_machine() {
        for (address, kind, url) in [
            ("0.0.0.0:1", ListenerKind::Http, "http://127.0.0.1:1"),
            ("[::]:1", ListenerKind::Https, "https://[::1]:1"),
            ("192.0.2.1:1", ListenerKind::Socks5, "socks5h://192.0.2.1:1"),
            (
                "127.0.0.1:1",
                ListenerKind::HttpAndSocks5,
                "http://127.0.0.1:1",
            ),
        ] {
            assert_eq!(entrance(address, kind, false).url(), url);
        }
    }
}
