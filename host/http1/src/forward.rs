//! Writes a head for the next hop, with the changes that an intermediary must make (RFC 9110 §7.6, RFC 9112 §3.2.2).
//!
//! Received lines keep their order, spelling and repeats. Fields for one hop are omitted, including those that
//! Connection names. Host, framing, Via and the connection fields are written anew, so that neither edits nor peers can
//! make the head announce another framing than the body has. There is no policy here: the options say whether to
//! upgrade, to persist or to use chunks.

mod request;
mod response;

pub use request::{RequestForm, RequestForward, forward_request};
pub use response::{ConnectionAnnouncement, OutFraming, ResponseForward, forward_response};

use crate::fields::{ConnectionOptions, FieldId, FieldView, Fields};

/// Room for the lines that the proxy writes.
const OWN_LINES_LEN: usize = 256;

/// Fields for one hop only, or that the proxy writes itself (RFC 9110 §7.6.1).
fn is_for_one_hop(id: FieldId) -> bool {
    matches!(
        id,
        FieldId::Connection
            | FieldId::KeepAlive
            | FieldId::ProxyConnection
            | FieldId::Te
            | FieldId::TransferEncoding
            | FieldId::ContentLength
            | FieldId::Upgrade
            | FieldId::Http2Settings
    )
}

/// Whether Connection names this field. Via remains: a sender must not hide the chain of proxies.
fn is_nominated(fields: Fields<'_>, connection: ConnectionOptions, line: FieldView<'_>) -> bool {
    connection.nominates
        && line.id != FieldId::Via
        && fields
            .members(FieldId::Connection)
            .any(|option| option.eq_ignore_ascii_case(line.name))
}

/// Writes Connection with the options that are set, or nothing if there are none.
fn write_connection(options: &[(&str, bool)], out: &mut Vec<u8>) {
    let mut separator = "Connection: ";
    for (option, _) in options.iter().filter(|(_, holds)| *holds) {
        out.extend_from_slice(separator.as_bytes());
        out.extend_from_slice(option.as_bytes());
        separator = ", ";
    }
    if separator == ", " {
        out.extend_from_slice(b"\r\n");
    }
}
