//! Converts messages between HTTP/2 and HTTP/1.1 (RFC 9113 §8, RFC 8441 §5): all rules, no sockets.
//!
//! From HTTP/2 come pseudo-fields and fields as `h2` has decoded them, and go out as the text of a head that `http1`
//! then reads like any other: hosts, paths and limits are checked there. What belongs to the connection is refused, as
//! is whatever would read differently in text. Towards HTTP/2 goes the text that this host has written itself, so that
//! a fault in it is an error of ours; what belongs to the connection is left out of it. The bytes of fields are not
//! copied one by one: they stay parts of the one text.

mod received;
mod sent;

use std::io;

use http::header::HeaderName;
use thiserror::Error;

use crate::http1::{BodyFraming, FieldId, Scheme};
pub(super) use received::{write_chunk_size, write_last_chunk, write_request, write_response};
pub(super) use sent::{read_request, read_response, read_trailers};

/// Why a message of a peer's does not become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum MessageError {
    #[error("the authority is missing")]
    AuthorityMissing,
    #[error("the authority contains user information")]
    Userinfo,
    #[error("Host is repeated or differs from the authority")]
    HostConflict,
    #[error("the path does not begin with /")]
    PathInvalid,
    #[error("a connection-specific field")]
    ConnectionField,
    #[error("TE has a value other than trailers")]
    TeInvalid,
    #[error("a field name contains an upper-case letter")]
    NameUpperCase,
    #[error("a field name contains an invalid character")]
    NameInvalid,
    #[error("a field value contains a control character")]
    ValueInvalid,
    /// Of a request: white space around a value of a response is taken off.
    #[error("a field value begins or ends with white space")]
    ValuePadded,
    #[error("a pseudo-header field in the trailers")]
    PseudoInTrailers,
    #[error("a request pseudo-header field in a response")]
    PseudoOfRequest,
    #[error("a response pseudo-header field in a request")]
    PseudoOfResponse,
    #[error("an unknown pseudo-header field")]
    PseudoUnknown,
    #[error("a pseudo-header field after a regular field")]
    PseudoLate,
    #[error("a repeated pseudo-header field")]
    PseudoRepeated,
    #[error("the response has no :status")]
    StatusMissing,
    #[error("trailers that do not end the stream")]
    TrailersUnended,
    #[error(
        "Content-Length is invalid, has conflicting values, or differs from the length of the content"
    )]
    LengthInvalid,
    #[error("status 101, which HTTP/2 does not allow")]
    SwitchingProtocols,
    /// Not malformed: 501 (RFC 9220 §3).
    #[error("a protocol other than websocket")]
    ProtocolUnknown,
    /// Not the peer's fault.
    #[error("no random numbers available for a WebSocket key")]
    NoKey,
}

/// What a request asks for, as far as its response depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    Ordinary,
    /// HEAD: the response has no content, whatever it says.
    Head,
    /// CONNECT.
    Tunnel,
    /// A WebSocket; what `Sec-WebSocket-Accept` has to say in HTTP/1.1.
    WebSocket([u8; 28]),
}

/// How the DATA frames of a stream continue a head in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IncomingBody {
    /// There is no content.
    Empty,
    /// As they are, this many bytes.
    Length(u64),
    /// In chunks, with trailers.
    Chunked,
    /// As they are, both ways, once the other side has agreed.
    Tunnel,
}

/// How text continues behind a head, and so which DATA frames it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutgoingBody {
    Framed(BodyFraming),
    Tunnel,
}

/// Whom the requests of a connection are for, which decides the form of their targets (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestTargets {
    /// For a proxy: absolute form. A request without authority gets its Host, and this scheme.
    Absolute {
        default_scheme: Scheme,
        /// What is asked with https is for the proxy itself, and gets origin form: on this connection nobody can mean
        /// anybody else by it, as https origins are reached by CONNECT.
        answers_https: bool,
    },
    /// For the origin that the connection was made to: origin form.
    Origin,
}

/// What becomes of white space around a value, which RFC 9113 §8.2.1 calls malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// It is refused: requests.
    Refused,
    /// It is taken off: responses. Many servers send it, and in text it means nothing.
    Trimmed,
}

impl Padding {
    /// The value as it would be read in text. Control characters are refused by its type.
    fn apply(self, value: &[u8]) -> Result<&[u8], MessageError> {
        let is_padding = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        match is_padding(value.first()) || is_padding(value.last()) {
            false => Ok(value),
            true if self == Self::Trimmed => Ok(value.trim_ascii()),
            true => Err(MessageError::ValuePadded),
        }
    }
}

fn is_connection_specific(name: &HeaderName) -> bool {
    matches!(
        FieldId::of(name.as_str().as_bytes()),
        FieldId::Connection
            | FieldId::KeepAlive
            | FieldId::ProxyConnection
            | FieldId::TransferEncoding
            | FieldId::Upgrade
    )
}

fn read_length(value: &[u8]) -> io::Result<u64> {
    let invalid = || unwritable("Content-Length is not a number of bytes");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(invalid());
    }
    let value = str::from_utf8(value).map_err(|_| invalid())?;
    value.parse().map_err(|_| invalid())
}

/// A message of this host's that HTTP/2 cannot carry.
fn unwritable(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
