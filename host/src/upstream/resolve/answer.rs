//! What a look-up comes to: addresses of one family, or why there are none.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;

/// Addresses of a name in one family that are used and kept; the others of a longer answer are left out. More are not
/// tried within the time that a connection has, and an answer over TCP could hold 4,000.
pub(super) const MAX_ADDRESSES: usize = 64;

/// The address family that is asked for.
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

/// Addresses, and for how long they may be kept.
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
    /// No name server gave an answer; why, for each of them.
    #[error("DNS failed: {}", shown(.0))]
    NoAnswer(Arc<[ServerFault]>),
    /// getaddrinfo failed for another reason than the name.
    #[error("the system resolver failed: {0}")]
    System(String),
    /// getaddrinfo took longer than this.
    #[error("the system resolver did not answer within {} s", .0.as_secs_f32())]
    SystemTimedOut(Duration),
    /// Longer than any name in the DNS (RFC 1035 §3.1).
    #[error("the name exceeds the DNS limit of 253 bytes")]
    NameTooLong,
    /// RFC 1035 §3.1.
    #[error("a label of the name exceeds the DNS limit of 63 bytes")]
    LabelTooLong,
    /// It has no labels, or an empty one.
    #[error("it is not a valid DNS name")]
    NameInvalid,
}

/// A name server that gave no answer, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerFault {
    pub(crate) server: SocketAddr,
    pub(crate) fault: Fault,
}

/// Why a name server gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing came for this long.
    TimedOut(Duration),
    /// The system could not reach it.
    Unreachable(String),
    /// It said that it cannot answer.
    Code(ResponseCode),
    /// What it sent is no answer.
    Malformed(String),
}

impl ResolveError {
    /// Whether somebody who knows has said so, and not that nobody could be asked.
    pub(super) fn is_denial(&self) -> bool {
        !matches!(
            self,
            Self::NoAnswer(_) | Self::System(_) | Self::SystemTimedOut(_)
        )
    }

    /// Whether each name server has answered, if only that it cannot.
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

    /// Of the reasons why a name has no address of either family, the one that tells what is wrong with the name.
    pub(in crate::upstream) fn of_both(v4: Self, v6: Self) -> Self {
        match (v4, v6) {
            // Some servers say so of every name without an IPv6 address (RFC 4074 §4.2), but not the other way round.
            (Self::NoAddress, Self::NoSuchHost) => Self::NoAddress,
            (Self::NoAddress, v6) => v6,
            (v4, _) => v4,
        }
    }
}

impl ServerFault {
    /// Whether the server has answered, if only to say that it cannot.
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
            // As the DNS writes them: SERVFAIL, REFUSED, FORMERR.
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
