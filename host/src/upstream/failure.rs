//! Why there is no connection to an upstream: every step's failures, for those who answer for them.
//!
//! They contain the destination and the parent proxy, but never the credentials for the parent.

use std::fmt;
use std::io;
use std::time::Duration;

use super::parent::Parent;
use super::resolve::ResolveError;
use super::route::Route;
use super::tls::TlsFailure;
use crate::http1::HeadError;
use crate::open_files;

/// There is no connection.
#[derive(Debug)]
pub(crate) struct DialError {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The parent proxy on the way, without its credentials.
    pub(crate) parent: Option<String>,
    pub(crate) failure: DialFailure,
}

impl DialError {
    /// Nothing has come of it within this time.
    pub(super) fn late(route: &Route<'_>, limit: Duration) -> Self {
        Self::new(route, DialFailure::TimedOut(limit))
    }

    /// Whether it would have succeeded with fewer descriptors open.
    pub(super) fn is_for_want_of_descriptors(&self) -> bool {
        match &self.failure {
            DialFailure::Connect(error) => open_files::is_out_of_descriptors(error),
            _ => false,
        }
    }

    /// Whether the destination was reached, and speaks no TLS.
    pub(super) fn is_for_want_of_tls(&self) -> bool {
        match &self.failure {
            DialFailure::Tls(failure) => failure.fault.is_not_tls() || failure.fault.is_silence(),
            _ => false,
        }
    }

    pub(super) fn new(route: &Route<'_>, failure: DialFailure) -> Self {
        Self {
            host: route.connect_host().to_owned(),
            port: route.port,
            parent: route.parent.map(Parent::to_string),
            failure,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialFailure {
    /// The name of the host, or of the parent proxy on the way, has no address.
    #[error("cannot resolve {host}: {error}{}", hint(host, error))]
    Resolve { host: String, error: ResolveError },
    /// Every address failed; this is what the last one said.
    #[error(transparent)]
    Connect(io::Error),
    /// Nothing answered within the limit, in seconds.
    #[error("no response within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// There is a connection, but no TLS on it.
    #[error(transparent)]
    Tls(Box<TlsFailure>),
    /// TLS has agreed on HTTP/2, and the peer does not speak it.
    #[error("it negotiated HTTP/2 but does not speak it: {0}")]
    Http2(io::Error),
    /// It is this proxy, from where the request would come back, and again.
    #[error("it is this proxy itself")]
    Itself,
    /// The parent proxy was reached and did not open a way to the destination.
    #[error(transparent)]
    Parent(#[from] ParentFailure),
}

/// Why a parent proxy opened no way to the destination.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParentFailure {
    /// It answered CONNECT with this status, not with 2xx.
    #[error("the parent proxy answered {0}")]
    Refused(u16),
    /// It answered CONNECT with something that is no response.
    #[error("the parent proxy sent an invalid response: {0}")]
    Head(HeadError),
    /// More interim responses than anybody needs.
    #[error("the parent proxy sent too many interim responses")]
    TooManyInterim,
    /// It refused in the words of SOCKS, or broke its rules.
    #[error(transparent)]
    Socks(#[from] SocksError),
    /// It is this proxy: what is sent there would come back, and again.
    #[error("it is this proxy itself")]
    Itself,
    /// It closed before it had answered.
    #[error("the parent proxy closed the connection")]
    Closed,
    /// The connection to it failed.
    #[error("the connection to the parent proxy failed: {0}")]
    Io(io::Error),
}

/// How a SOCKS proxy refused or broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SocksError {
    /// An answer of another version (RFC 1928 §3).
    #[error("the parent proxy does not speak SOCKS5")]
    VersionInvalid,
    /// It wants what we have not offered: credentials, or others.
    #[error("the parent proxy accepts none of the offered authentication methods")]
    NoMethod,
    /// It did not accept the user name and password (RFC 1929 §2).
    #[error("the parent proxy rejected the user name and password")]
    Unauthorized,
    /// It reached nothing (RFC 1928 §6).
    #[error("the parent proxy answered: {}", meaning(*.0))]
    Refused(u8),
    /// Its answer has an address of an unknown type.
    #[error("the parent proxy sent an address of an unknown type")]
    AddressTypeInvalid,
    /// The destination's name has more than 255 bytes.
    #[error("the name is too long for SOCKS5")]
    NameTooLong,
}

impl From<TlsFailure> for DialFailure {
    fn from(failure: TlsFailure) -> Self {
        Self::Tls(Box::new(failure))
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            port,
            parent,
            failure,
        } = self;
        // Nothing was connected to.
        if !matches!(failure, DialFailure::Resolve { .. }) {
            write!(f, "cannot connect to {host}:{port}")?;
            if let Some(parent) = parent {
                write!(f, " through {parent}")?;
            }
            f.write_str(": ")?;
        }
        failure.fmt(f)
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.failure)
    }
}

/// What may help with a name that the DNS does not know.
fn hint(host: &str, error: &ResolveError) -> &'static str {
    let is_unknown = matches!(error, ResolveError::NoSuchHost | ResolveError::NoAddress);
    match is_unknown {
        true if host.ends_with(".local") => {
            "; .local names belong to mDNS, which requires dns.resolver = system"
        }
        true if !host.contains('.') => {
            "; names of the local network may require dns.resolver = system"
        }
        _ => "",
    }
}

fn meaning(reply: u8) -> &'static str {
    match reply {
        1 => "general failure",
        2 => "not allowed by its ruleset",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "an unknown reply code",
    }
}
