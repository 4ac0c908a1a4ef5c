//! Which TLS connections are intercepted.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::certificates::Certificates;
use super::memory::HostMemory;
use crate::config::{HostPattern, InterceptionConfig, UnknownProtocol};

/// How long a destination that spoke no TLS is connected in clear first.
const CLEAR_FOR: Duration = Duration::from_secs(300);

/// What becomes of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Its TLS is ended here and its HTTP served, so that filters see both.
    Intercept,
    /// As `Intercept`, but TLS is relayed unseen. What was learnt about TLS says nothing about HTTP in clear.
    RelayTls(RelayReason),
    /// It is relayed unseen, whatever is in it.
    Relay(RelayReason),
}

/// Why a tunnel is relayed unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayReason {
    /// Nothing is intercepted at all.
    NoInterception,
    /// By the lists of the configuration.
    Excluded,
    /// The client has rejected our certificate for the host lately.
    Rejected,
    /// The host, whose certificate is accepted unverified, speaks only versions of TLS that we do not.
    OldTls,
    /// No certificate can be for a host of this name.
    NameInvalid,
    /// The name constraints of our CA forbid a certificate for the host.
    NotOurs,
    /// A plugin has decided that its TLS is not ended here.
    Plugin,
    /// The client's TLS is for protocols that the configuration names.
    Protocol,
    /// It is neither TLS nor HTTP.
    Unknown,
    /// It is TLS, which is ended here, and there is no HTTP in it.
    NoHttpInside,
    /// The client has ended its direction without a byte.
    Nothing,
}

impl RelayReason {
    /// For the tunnel's line in the access log.
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

/// Interception as it is configured, and what has been learnt about hosts. Shared by all workers.
#[derive(Debug)]
pub(crate) struct Interception {
    pub(crate) certificates: Arc<Certificates>,
    include: Vec<HostPattern>,
    exclude: Vec<HostPattern>,
    insecure: Vec<HostPattern>,
    fronting: Vec<HostPattern>,
    /// What becomes of tunnels in which neither TLS nor HTTP is spoken.
    pub(crate) unknown: UnknownProtocol,
    /// TLS whose client offers nothing else than these (ALPN) is relayed unseen.
    relayed_protocols: Vec<String>,
    /// Hosts with the clients that do not accept our certificates for them: one client does not decide for others.
    pub(crate) rejected: Arc<HostMemory>,
    /// Hosts that speak no TLS, as far as they have said.
    pub(crate) clear: Arc<HostMemory>,
}

impl Interception {
    /// In place of `before`, whose experience it takes over.
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

    /// What becomes of tunnels of `client` to `host`, as far as the configuration and experience say.
    pub(crate) fn treatment(&self, client: IpAddr, host: &str, port: u16) -> Treatment {
        self.treatment_of_name(client, host, (host, true), port)
    }

    /// As [`treatment`](Self::treatment), for a tunnel to an address or a front: `name` is whom the client asks for there,
    /// and whether it is proven. One that is not excludes nothing: it may be anybody's.
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

    /// What becomes of TLS for a host that there can be no certificate for, or none that clients would accept. As where
    /// clients reject our certificate, it is relayed, unless relaying is not wanted.
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

    /// Whether TLS that can only become one of these protocols is relayed.
    pub(crate) fn relays_protocols<'a>(&self, offered: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let is_relayed = |offered: &[u8]| {
            let mut relayed = self.relayed_protocols.iter();
            relayed.any(|relayed| relayed.as_bytes() == offered)
        };
        offered.into_iter().all(is_relayed)
    }

    /// Whether a name may keep a tunnel closed, as far as the configuration says.
    pub(crate) fn excludes(&self, name: &str) -> bool {
        self.exclude.iter().any(|pattern| pattern.matches(name))
    }

    /// `client` does not accept our certificate for `name`, in a tunnel to `host`.
    pub(crate) fn reject(&self, client: IpAddr, host: &str, name: &str, port: u16) {
        self.rejected.remember(&rejection(client, host, name), port);
    }

    /// The certificate of the CA, in DER.
    pub(crate) fn ca_der(&self) -> &[u8] {
        self.certificates.ca().certificate_der()
    }

    /// Whether tunnels to this host may carry what is for another one.
    pub(crate) fn allows_fronting(&self, host: &str) -> bool {
        self.fronting.iter().any(|pattern| pattern.matches(host))
    }

    /// Whether anything is accepted from this host.
    pub(crate) fn skips_verification(&self, host: &str) -> bool {
        self.insecure.iter().any(|pattern| pattern.matches(host))
    }
}

/// Whether the client has resolved the name itself.
pub(crate) fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

/// With the tunnel's host: what is at one address says nothing about others that are called the same.
fn rejection(client: IpAddr, host: &str, name: &str) -> String {
    format!("{client} {host} {name}")
}
