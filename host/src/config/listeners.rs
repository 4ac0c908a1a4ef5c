//! The listeners: the addresses at which clients connect, and what each of them speaks.
//!
//! `hostname`, `port` and the key pair in `[tls]` describe the first listener; each table in `[[listeners]]` describes
//! another one. With such tables, the first one exists only if `hostname` or `port` is set. Whether a host name
//! resolves, an address can be bound and a plugin exists is found out where they are used.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{ListenerSettings, Settings};
use super::value::{Hostname, Port};
use super::{Config, KeyPairFiles};

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// The name in the log and in `proxy status`. Default: the endpoint as written, such as `::1:8899`.
    pub name: String,
    /// Where clients connect.
    pub endpoint: Endpoint,
    /// What clients speak. Default: HTTP, over TLS if there is a key pair.
    pub kind: ListenerKind,
    /// Certificate and key, of TLS below whatever the kind is; always for [`ListenerKind::Https`], never for
    /// [`ListenerKind::Http`].
    pub key_pair: Option<KeyPairFiles>,
    /// Networks whose connections begin with a PROXY protocol header. Default: none.
    pub proxy_protocol_from: Vec<IpNet>,
    /// The names of the plugins that serve its clients. Default: all plugins.
    pub plugins: Option<Vec<String>>,
    /// Where it is written, such as `proxy.toml:12`.
    pub origin: String,
    /// Its position in `[[listeners]]`; `None` for the first listener, which `hostname` and `port` or their flags
    /// describe.
    pub entry: Option<usize>,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// TCP.
    Tcp {
        /// An IP literal without brackets, or a name that is resolved at start.
        hostname: String,
        /// 0 lets the system choose.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// The path of its file.
        path: PathBuf,
        /// The permissions of its file. Default 0660.
        mode: u32,
    },
}

/// What the clients of a listener speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ListenerKind {
    /// HTTP without TLS.
    #[serde(rename = "http")]
    Http,
    /// HTTP over TLS.
    #[serde(rename = "https")]
    Https,
    /// SOCKS5 (RFC 1928), over TLS if there is a key pair.
    #[serde(rename = "socks5")]
    Socks5,
    /// SOCKS5 or HTTP, as the first byte says; over TLS if there is a key pair.
    #[serde(rename = "http+socks5")]
    HttpAndSocks5,
}

impl ListenerKind {
    /// Whether clients may speak HTTP, over TLS or not.
    pub fn speaks_http(self) -> bool {
        !matches!(self, Self::Socks5)
    }

    /// Whether clients may speak SOCKS5, over TLS or not.
    pub(crate) fn speaks_socks(self) -> bool {
        matches!(self, Self::Socks5 | Self::HttpAndSocks5)
    }
}

impl ListenerConfig {
    /// Whether a connection from this address begins with a PROXY protocol header.
    pub(crate) fn trusts_header_of(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let mut networks = self.proxy_protocol_from.iter();
        networks.any(|network| network.contains(&peer))
    }

    /// The one that `hostname`, `port` and the key pair in `[tls]` describe.
    pub(super) fn first(hostname: &Hostname, port: Port, key_pair: Option<KeyPairFiles>) -> Self {
        let endpoint = tcp(hostname, port);
        Self {
            name: endpoint.to_string(),
            endpoint,
            kind: default_kind(&key_pair),
            key_pair,
            proxy_protocol_from: Vec::new(),
            plugins: None,
            origin: "hostname and port".to_owned(),
            entry: None,
        }
    }
}

fn default_kind(key_pair: &Option<KeyPairFiles>) -> ListenerKind {
    match key_pair {
        Some(_) => ListenerKind::Https,
        None => ListenerKind::Http,
    }
}

impl Endpoint {
    /// Host name and port; `None` for a Unix socket.
    pub fn tcp(&self) -> Option<(&str, u16)> {
        match self {
            Self::Tcp { hostname, port } => Some((hostname, *port)),
            Self::Unix { .. } => None,
        }
    }

    /// Whether this is the path of its file.
    pub(crate) fn is_file(&self, file: &Path) -> bool {
        matches!(self, Self::Unix { path, .. } if path == file)
    }

    /// Whether both are the same place, so that a reload keeps the socket.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix { path, .. }, Self::Unix { path: other, .. }) => path == other,
            _ => self == other,
        }
    }

    /// Whether they cannot be bound side by side, judging by what is written.
    fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp { port: 0, .. }, _) => false,
            (
                Self::Tcp { hostname, port },
                Self::Tcp {
                    hostname: other_hostname,
                    port: other_port,
                },
            ) => port == other_port && share_address(hostname, other_hostname),
            (Self::Unix { path, .. }, Self::Unix { path: other, .. }) => path == other,
            _ => false,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { hostname, port } => write!(f, "{hostname}:{port}"),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

fn share_address(one: &str, other: &str) -> bool {
    let (ips, others) = (literal_addresses(one), literal_addresses(other));
    match ips.is_empty() || others.is_empty() {
        true => one.eq_ignore_ascii_case(other),
        false => ips.iter().any(|ip| {
            others
                .iter()
                .any(|other| covers(*ip, *other) || covers(*other, *ip))
        }),
    }
}

/// The addresses that a host name means without being resolved.
fn literal_addresses(hostname: &str) -> Vec<IpAddr> {
    if hostname.eq_ignore_ascii_case("localhost") {
        return vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
    }
    hostname.parse().into_iter().collect()
}

/// Whether a listener on `ip` is one on `other` as well. On `::`, it accepts IPv4, too.
pub(crate) fn covers(ip: IpAddr, other: IpAddr) -> bool {
    match ip {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => other.to_canonical().is_ipv4(),
        _ => ip == other,
    }
}

impl Config {
    /// The port of the first TCP listener; 0 if the system chooses it, or if there is none.
    pub(crate) fn first_port(&self) -> u16 {
        let mut endpoints = self.listeners.iter().map(|listener| &listener.endpoint);
        let first = endpoints.find_map(Endpoint::tcp);
        first.map_or(0, |(_, port)| port)
    }
}

/// What is wrong with a listener.
pub(super) struct ListenerFault {
    /// The key at fault, such as `listeners[0].port`.
    pub(super) key: String,
    pub(super) reason: String,
}

/// What the listeners are made of.
pub(super) struct Listeners<'s> {
    pub(super) hostname: &'s Hostname,
    pub(super) port: Port,
    /// Whether `hostname` or `port` is set.
    pub(super) has_first: bool,
    /// Of the first listener, and of those of the kind `https` that have no other.
    pub(super) key_pair: Option<KeyPairFiles>,
    pub(super) further: &'s [ListenerSettings],
}

impl Listeners<'_> {
    /// All of them, at least one; `origin` says where the further one with this index is written.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(super) fn checked(
        self,
        origin: impl Fn(usize) -> String,
    ) -> Result<Vec<ListenerConfig>, Vec<ListenerFault>> {
        let mut faults = Vec::new();
        let mut listeners: Vec<ListenerConfig> = Vec::new();
        let has_first = self.has_first || self.further.is_empty();
        if has_first {
            let key_pair = self.key_pair.clone();
            listeners.push(ListenerConfig::first(self.hostname, self.port, key_pair));
        }
        let is_key_pair_used =
            has_first || self.further.iter().any(ListenerSettings::needs_key_pair);
        if self.key_pair.is_some() && !is_key_pair_used {
            faults.push(ListenerFault {
                key: "tls.cert_file".to_owned(),
                reason:
                    "no listener uses it; set kind = \"https\" in one of [[listeners]], or set port"
                        .to_owned(),
            });
        }
        for (index, settings) in self.further.iter().enumerate() {
            let key = |key: &str| format!("listeners[{index}].{key}");
            match further(settings, &self.key_pair, index, origin(index)) {
                Ok(listener) => {
                    if let Some((at, reason)) = conflict(&listener, &listeners) {
                        faults.push(ListenerFault {
                            key: key(at),
                            reason,
                        });
                    }
                    listeners.push(listener);
                }
                Err((at, reason)) => faults.push(ListenerFault {
                    key: key(at),
                    reason,
                }),
            }
        }
        match faults.is_empty() {
            true => Ok(listeners),
            false => Err(faults),
        }
    }
}

fn tcp(hostname: &Hostname, port: Port) -> Endpoint {
    Endpoint::Tcp {
        hostname: hostname.0.clone(),
        port: port.0 as u16,
    }
}

/// The key at fault, and the reason.
type Refused = (&'static str, String);

fn further(
    settings: &ListenerSettings,
    general: &Option<KeyPairFiles>,
    entry: usize,
    origin: String,
) -> Result<ListenerConfig, Refused> {
    let own = key_pair(&settings.cert_file, &settings.key_file)?;
    let kind = settings.kind.unwrap_or(default_kind(&own));
    let key_pair = match (kind, own) {
        (ListenerKind::Https, own) => {
            let found = own.or_else(|| general.clone());
            let missing = "needs a certificate; set cert_file and key_file here or in [tls]";
            Some(found.ok_or(("kind", missing.to_owned()))?)
        }
        (ListenerKind::Http, Some(_)) => {
            let reason = "a listener of the kind \"http\" has no certificate; remove cert_file and key_file, or \
                          set kind = \"https\"";
            return Err(("cert_file", reason.to_owned()));
        }
        (_, own) => own,
    };
    let endpoint = endpoint(settings)?;
    let name = settings.name.clone();
    Ok(ListenerConfig {
        name: name.unwrap_or_else(|| endpoint.to_string()),
        endpoint,
        kind,
        key_pair,
        proxy_protocol_from: settings
            .proxy_protocol_from
            .iter()
            .map(|network| network.0)
            .collect(),
        plugins: settings.plugins.clone(),
        origin,
        entry: Some(entry),
    })
}

fn endpoint(settings: &ListenerSettings) -> Result<Endpoint, Refused> {
    let refused = |key, reason: &str| Err((key, reason.to_owned()));
    match (&settings.path, &settings.hostname, settings.port) {
        (Some(path), None, None) => Ok(Endpoint::Unix {
            path: path.clone(),
            mode: settings.mode.map_or(0o660, |mode| mode.0),
        }),
        (Some(_), ..) => refused(
            "path",
            "is a Unix socket, which has neither hostname nor port; use a table in [[listeners]] for each",
        ),
        (None, None, None) => refused(
            "",
            "says neither port nor path; set port for TCP, or path for a Unix socket",
        ),
        (None, ..) if settings.mode.is_some() => {
            refused("mode", "is for Unix sockets; set path, or remove mode")
        }
        (None, Some(_), None) => refused("hostname", "given without port; set port"),
        (None, Some(hostname), Some(port)) => Ok(tcp(hostname, port)),
        (None, None, Some(port)) => Ok(tcp(&Settings::default().hostname, port)),
    }
}

fn key_pair(
    cert_file: &Option<PathBuf>,
    key_file: &Option<PathBuf>,
) -> Result<Option<KeyPairFiles>, Refused> {
    match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => Ok(Some(KeyPairFiles {
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
        })),
        (None, None) => Ok(None),
        (Some(_), None) => Err((
            "cert_file",
            "given without key_file; give both, or none".to_owned(),
        )),
        (None, Some(_)) => Err((
            "key_file",
            "given without cert_file; give both, or none".to_owned(),
        )),
    }
}

/// Why a listener cannot exist beside those before it.
fn conflict(listener: &ListenerConfig, before: &[ListenerConfig]) -> Option<Refused> {
    if let Some(other) = before
        .iter()
        .find(|other| other.endpoint.collides(&listener.endpoint))
    {
        let (key, remedy) = match &listener.endpoint {
            Endpoint::Tcp { .. } => ("port", "another port"),
            Endpoint::Unix { .. } => ("path", "another path"),
        };
        let reason = format!(
            "{} is already in use by the listener {} ({}); give one of them {remedy}",
            listener.endpoint, other.endpoint, other.origin
        );
        return Some((key, reason));
    }
    let other = before.iter().find(|other| other.name == listener.name)?;
    // Port 0 may be there several times.
    (other.endpoint != listener.endpoint).then(|| {
        let reason = format!(
            "`{}` is already the name of another listener ({}); use another name",
            listener.name, other.origin
        );
        ("name", reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        match text.strip_prefix("unix:") {
            Some(path) => Endpoint::Unix {
                path: path.into(),
                mode: 0o660,
            },
            None => {
                let (host, port) = text.rsplit_once(':').unwrap();
                Endpoint::Tcp {
                    hostname: host.to_owned(),
                    port: port.parse().unwrap(),
                }
            }
        }
    }

    #[test]
    fn endpoints_collide_if_one_address_belongs_to_both() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "::1:80", false),
            (":::80", "127.0.0.1:80", true),
            (":::80", "0.0.0.0:80", true),
            ("localhost:80", "::1:80", true),
            ("localhost:80", "127.0.0.1:80", true),
            ("localhost:80", "127.0.0.2:80", false),
            ("a.example:80", "A.example:80", true),
            ("a.example:80", "b.example:80", false),
            ("a.example:80", "127.0.0.1:80", false),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:/b", false),
            ("unix:/a", "127.0.0.1:80", false),
        ] {
            let (one_endpoint, other_endpoint) = (endpoint(one), endpoint(other));
            assert_eq!(
                one_endpoint.collides(&other_endpoint),
                expected,
                "{one} {other}"
            );
            assert_eq!(
                other_endpoint.collides(&one_endpoint),
                expected,
                "{other} {one}"
            );
        }
    }
}
