//! The result of a look-up: addresses of one family, or the reason why there are none.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;

/// How many addresses of a name are used, per family; the rest of a longer answer is ignored. A connection attempt
/// would not have time to try more, and an answer over TCP may contain 4,000.
pub(super) const MAX_ADDRESSES: usize = 64;

/// The address family of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn record_type(self) -> RecordType {
        match self {
            Self::V4 => RecordType::A,
            Self::V6 => RecordType::AAAA,
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    pub(super) fn has(self, ip: IpAddr) -> bool {
        ip.is_ipv6() == (self == Self::V6)
    }

    pub(super) fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

/// The result of a look-up, and how long it may be cached.
pub(super) type Resolution = (Result<Vec<IpAddr>, ResolveError>, Duration);

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    /// The name does not exist.
    #[error("no such host")]
    NoSuchHost,
    /// The name exists and has no address of this family.
    #[error("the host has no address")]
    NoAddress,
    /// No name server answered; with the reason for each.
    #[error("DNS failed: {}", shown(.0))]
    NoAnswer(Arc<[ServerFault]>),
    /// getaddrinfo failed for a reason other than the name.
    #[error("the system resolver failed: {0}")]
    System(String),
    /// getaddrinfo took longer than this.
    #[error("the system resolver did not answer within {} s", .0.as_secs_f32())]
    SystemTimedOut(Duration),
    /// RFC 1035 §2.3.4.
    #[error("the name exceeds the DNS limit of 253 bytes")]
    NameTooLong,
    /// RFC 1035 §2.3.4.
    #[error("a label of the name exceeds the DNS limit of 63 bytes")]
    LabelTooLong,
    /// It has no labels, or an empty one.
    #[error("it is not a valid DNS name")]
    NameInvalid,
}

/// A name server that did not answer, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerFault {
    pub(crate) server: SocketAddr,
    pub(crate) fault: Fault,
}

/// Why a name server did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing arrived within this time.
    TimedOut(Duration),
    /// It could not be reached, according to the system.
    Unreachable(String),
    /// It returned an error.
    Code(ResponseCode),
    /// It sent an invalid message.
    Malformed(String),
}

impl ResolveError {
    /// Whether this is an answer about the name, and not a failure to get one.
    pub(super) fn is_denial(&self) -> bool {
        !matches!(
            self,
            Self::NoAnswer(_) | Self::System(_) | Self::SystemTimedOut(_)
        )
    }

    /// Whether every name server has answered, if only with an error.
    pub(super) fn is_answered(&self) -> bool {
        match self {
            Self::NoAnswer(faults) => faults.iter().all(ServerFault::is_answer),
            _ => true,
        }
    }

    /// Whether the answer did not come in time.
    pub(crate) fn is_late(&self) -> bool {
        match self {
            Self::SystemTimedOut(_) => true,
            Self::NoAnswer(faults) => faults
                .iter()
                .any(|fault| matches!(fault.fault, Fault::TimedOut(_))),
            _ => false,
        }
    }

    /// Selects the more useful of the reasons why a name has no address in either family.
    pub(in crate::upstream) fn of_both(v4: Self, v6: Self) -> Self {
        match (v4, v6) {
            // Some servers return NXDOMAIN for every name without an IPv6 address (RFC 4074 §4.2).
            (Self::NoAddress, Self::NoSuchHost) => Self::NoAddress,
            (Self::NoAddress, v6) => v6,
            (v4, _) => v4,
        }
    }
}

impl ServerFault {
    /// Whether the server has answered, if only with an error.
    fn is_answer(&self) -> bool {
        matches!(self.fault, Fault::Code(_))
    }
}

impl fmt::Display for ServerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "name server {} ", self.server)?;
        match &self.fault {
            Fault::TimedOut(limit) => {
                write!(f, "did not answer within {} s", limit.as_secs_f32())
            }
            Fault::Unreachable(reason) => write!(f, "cannot be reached: {reason}"),
            // In DNS spelling: SERVFAIL, REFUSED, FORMERR.
            Fault::Code(code) => {
                write!(f, "answered {}", format!("{code:?}").to_uppercase())
            }
            Fault::Malformed(reason) => write!(f, "sent an invalid answer: {reason}"),
        }
    }
}

/// `faults` in one line.
fn shown(faults: &Arc<[ServerFault]>) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    faults.join("; ")
}
