//! Converts messages between HTTP/2 and HTTP/1.1 (RFC 9113 §8, RFC 8441 §5): all rules, no sockets.
//!
//! From HTTP/2, the fields as `h2` has decoded them become the text of a head, which `http1` then parses like any
//! other, and so checks hosts, paths and limits. Connection-specific fields are refused, and so is everything that
//! would have another meaning in text. Toward HTTP/2, the text is always written by this host, so an error in it is a
//! fault of the host; connection-specific fields are omitted. Fields are not copied one by one: they stay slices of the
//! text.

mod received;
mod sent;

use std::io;

use http::header::HeaderName;
use thiserror::Error;

use crate::http1::{BodyFraming, FieldId, Scheme};
pub(super) use received::{write_chunk_size, write_last_chunk, write_request, write_response};
pub(super) use sent::{read_request, read_response, read_trailers};

/// Why a message of a peer is refused.
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
    /// In a request; white space around values of a response is trimmed.
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

/// The kind of a request, as far as its response depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    Ordinary,
    /// HEAD: the response has no content, regardless of its fields.
    Head,
    /// CONNECT.
    Tunnel,
    /// A WebSocket, with the value of `Sec-WebSocket-Accept` in HTTP/1.1.
    WebSocket([u8; 28]),
}

/// How the DATA frames of a stream become text after the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IncomingBody {
    /// There is no content.
    Empty,
    /// Unchanged, this many bytes.
    Length(u64),
    /// As chunks, with trailers.
    Chunked,
    /// Unchanged, in both directions, once the tunnel is established.
    Tunnel,
}

/// How text after a head becomes DATA frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutgoingBody {
    Framed(BodyFraming),
    Tunnel,
}

/// Who receives the requests of a connection, which determines the form of their targets (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestTargets {
    /// A proxy: absolute form. A request without an authority gets the one in Host, and this scheme.
    Absolute {
        default_scheme: Scheme,
        /// Requests with the scheme https are for the proxy itself, and get origin form: on this connection, https can
        /// mean nothing else, because https origins are reached by CONNECT.
        answers_https: bool,
    },
    /// The origin to which the connection was made: origin form.
    Origin,
}

/// How white space around a value is treated, which RFC 9113 §8.2.1 calls malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// It is refused, in requests.
    Refused,
    /// It is trimmed, in responses. Many servers send it, and in text it has no meaning.
    Trimmed,
}

impl Padding {
    /// The value as it would be parsed in text. It contains no control characters, because of its type.
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

/// The error of a message that this host has written and HTTP/2 cannot represent.
fn unwritable(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
