//! Decides which tunnels are intercepted.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::certificates::Certificates;
use super::memory::HostMemory;
use crate::config::{HostPattern, InterceptionConfig, UnknownProtocol};

/// How long a destination that does not support TLS is connected to without TLS first.
const CLEAR_FOR: Duration = Duration::from_secs(300);

/// How a tunnel is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Its TLS is terminated and its HTTP served, so that filters see both.
    Intercept,
    /// TLS is relayed without decryption; plain HTTP is served, because learned facts about TLS say nothing about it.
    RelayTls(RelayReason),
    /// It is relayed without decryption, whatever it carries.
    Relay(RelayReason),
}

/// Why a tunnel is relayed without decryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayReason {
    /// Interception is not configured.
    NoInterception,
    /// The host is excluded by the configuration.
    Excluded,
    /// The client has recently rejected our certificate for the host.
    Rejected,
    /// The host, which is listed as insecure, supports obsolete versions of TLS only.
    OldTls,
    /// The name cannot be in a certificate.
    NameInvalid,
    /// The name constraints of our CA do not permit the host.
    NotOurs,
    /// A plugin has decided so.
    Plugin,
    /// The client offers only protocols that the configuration relays.
    Protocol,
    /// It is neither TLS nor HTTP.
    Unknown,
    /// The decrypted content is not HTTP.
    NoHttpInside,
    /// The client has closed its direction without sending a byte.
    Nothing,
}

impl RelayReason {
    /// The note in the tunnel's line of the access log.
    pub(crate) fn note(self) -> Option<&'static str> {
        match self {
            Self::NoInterception => None,
            Self::Excluded => Some("relayed, the host is excluded"),
            Self::Rejected => Some("relayed, the client rejected our certificate"),
            Self::OldTls => Some("relayed, the host supports only obsolete TLS versions"),
            Self::NameInvalid => Some("relayed, no certificate can be issued for this host name"),
            Self::NotOurs => Some("relayed, the CA may not sign for this host"),
            Self::Plugin => Some("relayed, a plugin decided"),
            Self::Protocol => Some("relayed, the client offers only relay_protocols"),
            Self::Unknown => Some("relayed, not HTTP or TLS"),
            Self::NoHttpInside => Some("relayed decrypted, not HTTP"),
            Self::Nothing => Some("relayed, the client sent nothing"),
        }
    }
}

/// The configuration of interception, and learned facts about hosts. Shared by all workers.
#[derive(Debug)]
pub(crate) struct Interception {
    pub(crate) certificates: Arc<Certificates>,
    include: Vec<HostPattern>,
    exclude: Vec<HostPattern>,
    insecure: Vec<HostPattern>,
    fronting: Vec<HostPattern>,
    /// What to do with tunnels that carry neither TLS nor HTTP.
    pub(crate) unknown: UnknownProtocol,
    /// TLS whose client offers only these protocols (ALPN) is relayed without decryption.
    relayed_protocols: Vec<String>,
    /// Hosts and clients that reject our certificates for them. Per client, because one does not decide for others.
    pub(crate) rejected: Arc<HostMemory>,
    /// Hosts that have answered without TLS.
    pub(crate) clear: Arc<HostMemory>,
}

impl Interception {
    /// Replaces `before`, whose learned facts it keeps.
    pub(crate) fn new(
        config: &InterceptionConfig,
        certificates: Arc<Certificates>,
        before: Option<&Self>,
    ) -> Self {
        let is_as_long = |before: &&Self| before.rejected.lifetime() == config.rejected_for;
        Self {
            certificates,
            include: config.include.clone(),
            exclude: config.exclude.clone(),
            insecure: config.insecure_hosts.clone(),
            fronting: config.allow_fronting.clone(),
            unknown: config.unknown,
            relayed_protocols: config.relay_protocols.clone(),
            rejected: match before.filter(is_as_long) {
                Some(before) => Arc::clone(&before.rejected),
                None => Arc::new(HostMemory::new(config.rejected_for)),
            },
            clear: match before {
                Some(before) => Arc::clone(&before.clear),
                None => Arc::new(HostMemory::new(CLEAR_FOR)),
            },
        }
    }

    /// How tunnels of `client` to `host` are treated, according to the configuration and learned facts.
    pub(crate) fn treatment(&self, client: IpAddr, host: &str, port: u16) -> Treatment {
        self.treatment_of_name(client, host, (host, true), port)
    }

    /// Like [`treatment`](Self::treatment), for a tunnel to an address or a front; `name` is the host that the client
    /// requests there, and whether it is proven. An unproven name excludes nothing, because anybody can claim it.
    pub(crate) fn treatment_of_name(
        &self,
        client: IpAddr,
        host: &str,
        (name, is_proven): (&str, bool),
        port: u16,
    ) -> Treatment {
        let name_any = |patterns: &[HostPattern], name: &str| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| pattern.matches(name))
        };
        let is_included = name_any(&self.include, host) || name_any(&self.include, name);
        let is_excluded =
            name_any(&self.exclude, host) || is_proven && name_any(&self.exclude, name);
        let is_rejected =
            || self.rejected.is_used() && self.rejected.knows(&rejection(client, host, name), port);
        if !is_included || is_excluded {
            Treatment::Relay(RelayReason::Excluded)
        } else if is_rejected() {
            Treatment::RelayTls(RelayReason::Rejected)
        } else {
            self.treatment_by_certificate(name)
        }
    }

    /// How TLS is treated for a host that cannot have a certificate, or none that clients would accept. As if clients
    /// had rejected the certificate, it is relayed, unless `rejected_for` disables that.
    fn treatment_by_certificate(&self, name: &str) -> Treatment {
        if ServerName::try_from(name).is_err() && self.unknown == UnknownProtocol::Relay {
            Treatment::RelayTls(RelayReason::NameInvalid)
        } else if !self.certificates.ca().may_sign_for(name) && !self.rejected.lifetime().is_zero()
        {
            Treatment::RelayTls(RelayReason::NotOurs)
        } else {
            Treatment::Intercept
        }
    }

    /// Whether TLS that offers only these protocols is relayed.
    pub(crate) fn relays_protocols<'a>(&self, offered: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let is_relayed = |offered: &[u8]| {
            let mut relayed = self.relayed_protocols.iter();
            relayed.any(|relayed| relayed.as_bytes() == offered)
        };
        offered.into_iter().all(is_relayed)
    }

    /// Whether the configuration excludes this name from interception.
    pub(crate) fn excludes(&self, name: &str) -> bool {
        self.exclude.iter().any(|pattern| pattern.matches(name))
    }

    /// Records that `client` does not accept our certificate for `name`, in a tunnel to `host`.
    pub(crate) fn reject(&self, client: IpAddr, host: &str, name: &str, port: u16) {
        self.rejected.remember(&rejection(client, host, name), port);
    }

    /// The certificate of the CA, in DER.
    pub(crate) fn ca_der(&self) -> &[u8] {
        self.certificates.ca().certificate_der()
    }

    /// Whether tunnels to this host may carry requests for another one.
    pub(crate) fn allows_fronting(&self, host: &str) -> bool {
        self.fronting.iter().any(|pattern| pattern.matches(host))
    }

    /// Whether any certificate of this host is accepted.
    pub(crate) fn skips_verification(&self, host: &str) -> bool {
        self.insecure.iter().any(|pattern| pattern.matches(host))
    }
}

/// Whether the tunnel's host is an address, which the client has resolved itself.
pub(crate) fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

/// Includes the tunnel's host: one address says nothing about others with the same name.
fn rejection(client: IpAddr, host: &str, name: &str) -> String {
    format!("{client} {host} {name}")
}
