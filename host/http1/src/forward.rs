//! What an intermediary must change in a head (RFC 9110 §7.6, RFC 9112 §3.2.2), written straight to the next hop.
//!
//! Received lines keep order, spelling and repeats. What belongs to one hop is left out, with the fields that
//! Connection nominates; Host, framing, Via and the connection fields are the proxy's own and written anew, so
//! that no edit and no peer can make the head say another framing than the body has. Decides nothing about
//! policy: what is upgraded, kept alive or chunked comes in the options.

mod request;
mod response;

pub use request::{RequestForm, RequestForward, forward_request};
pub use response::{ConnectionAnnouncement, OutFraming, ResponseForward, forward_response};

use crate::fields::{ConnectionOptions, FieldId, FieldView, Fields};

/// Room for the lines that are the proxy's own.
const OWN_LINES_LEN: usize = 256;

/// Fields that say something about this hop alone, or that the proxy writes itself (RFC 9110 §7.6.1).
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

/// Whether Connection names this field; Via stays, a chain of proxies is not the sender's to hide.
fn is_nominated(fields: Fields<'_>, connection: ConnectionOptions, line: FieldView<'_>) -> bool {
    connection.nominates
        && line.id != FieldId::Via
        && fields
            .members(FieldId::Connection)
            .any(|option| option.eq_ignore_ascii_case(line.name))
}

/// Writes Connection with the options that hold, or nothing when none does.
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
