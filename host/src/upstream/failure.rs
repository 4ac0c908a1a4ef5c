//! Why a connection to an upstream could not be made: the errors of every step.
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

/// A connection could not be made.
#[derive(Debug)]
pub(crate) struct DialError {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The parent proxy in between, without its credentials.
    pub(crate) parent: Option<String>,
    pub(crate) failure: DialFailure,
}

impl DialError {
    /// The limit was exceeded.
    pub(super) fn late(route: &Route<'_>, limit: Duration) -> Self {
        Self::new(route, DialFailure::TimedOut(limit))
    }

    /// Whether there were no free descriptors.
    pub(super) fn is_out_of_descriptors(&self) -> bool {
        match &self.failure {
            DialFailure::Connect(error) => open_files::is_out_of_descriptors(error),
            _ => false,
        }
    }

    /// Whether the destination was reached, but does not speak TLS.
    pub(super) fn is_not_tls(&self) -> bool {
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

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialFailure {
    /// The name of the host, or of the parent proxy in between, has no address.
    #[error("cannot resolve {host}: {error}{}", hint(host, error))]
    Resolve { host: String, error: ResolveError },
    /// Every address failed; this is the last error.
    #[error(transparent)]
    Connect(io::Error),
    /// Nothing answered within the limit, in seconds.
    #[error("no response within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The TLS handshake failed.
    #[error(transparent)]
    Tls(Box<TlsFailure>),
    /// HTTP/2 was negotiated, but the peer does not speak it.
    #[error("it negotiated HTTP/2 but does not speak it: {0}")]
    Http2(io::Error),
    /// The destination is this proxy: the request would loop.
    #[error("it is this proxy itself")]
    Itself,
    /// The parent proxy was reached, but did not connect to the destination.
    #[error(transparent)]
    Parent(#[from] ParentFailure),
}

/// Why a parent proxy did not connect to the destination.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParentFailure {
    /// It answered CONNECT with this status, not with 2xx.
    #[error("the parent proxy answered {0}")]
    Refused(u16),
    /// It answered CONNECT with an invalid response.
    #[error("the parent proxy sent an invalid response: {0}")]
    Head(HeadError),
    /// It sent too many interim responses.
    #[error("the parent proxy sent too many interim responses")]
    TooManyInterim,
    /// It refused by SOCKS, or violated that protocol.
    #[error(transparent)]
    Socks(#[from] SocksError),
    /// The parent proxy is this proxy: the request would loop.
    #[error("it is this proxy itself")]
    Itself,
    /// It closed the connection before it had answered.
    #[error("the parent proxy closed the connection")]
    Closed,
    /// The connection to it failed.
    #[error("the connection to the parent proxy failed: {0}")]
    Io(io::Error),
}

/// How a SOCKS proxy refused a request or violated the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SocksError {
    /// An answer of another version (RFC 1928 §3).
    #[error("the parent proxy does not speak SOCKS5")]
    VersionInvalid,
    /// It requires an authentication method that was not offered, such as credentials.
    #[error("the parent proxy accepts none of the offered authentication methods")]
    NoMethod,
    /// It did not accept the user name and password (RFC 1929 §2).
    #[error("the parent proxy rejected the user name and password")]
    Unauthorized,
    /// It could not connect (RFC 1928 §6).
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
        // There was no address to connect to.
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

/// What may help if a name does not exist in the DNS.
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
