//! Writes the response head for the client: its framing, and the state of the connection (RFC 9112 §6, §9).

use super::{OWN_LINES_LEN, is_for_one_hop, is_nominated, write_connection};
use crate::encode::{write_decimal, write_field, write_line, write_status_line};
use crate::fields::{ConnectionOptions, FieldId, FieldView, Fields};
use crate::framing::content_length;
use crate::head::ResponseHead;
use crate::via::write_via;

/// The framing of a forwarded response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutFraming {
    /// No framing field: 1xx, 204, and 2xx to CONNECT.
    None,
    /// The length that the origin announced, for a body that is not sent: HEAD and 304.
    Keep,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// No framing field; the body ends when the proxy closes.
    UntilClose,
}

/// What a forwarded response says about the client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionAnnouncement {
    /// Nothing: it persists.
    Nothing,
    /// It closes after this response.
    Close,
    /// It switches to the protocol in Upgrade.
    Upgrade,
}

/// Options for forwarding a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseForward<'a> {
    /// The pseudonym in Via; empty for no Via line.
    pub via: &'a str,
    /// The framing of the forwarded body.
    pub framing: OutFraming,
    /// What to say about the connection.
    pub connection: ConnectionAnnouncement,
    /// The date (IMF-fixdate) to write if the origin sent none.
    pub date: Option<&'a str>,
    /// Whether a trailer section will be forwarded, so that it may be announced.
    pub trailers: bool,
}

/// Writes the response head for the client.
pub fn forward_response(head: &ResponseHead, options: &ResponseForward<'_>, out: &mut Vec<u8>) {
    let fields = head.fields();
    let connection = fields.connection_options();
    let via_at = fields.last_index(FieldId::Via);
    let upgrade = announces_upgrade(head, options);

    out.reserve(OWN_LINES_LEN);
    write_status_line(out, head.status(), head.reason());
    for (index, line) in fields.lines().enumerate() {
        if response_line_travels(fields, connection, options, upgrade, line) {
            write_line(out, line);
        }
        if via_at == Some(index) {
            write_via(options.via, head.version(), out);
        }
    }
    if via_at.is_none() {
        write_via(options.via, head.version(), out);
    }
    if let (Some(date), false) = (options.date, fields.has(FieldId::Date)) {
        write_field(out, "Date", date.as_bytes());
    }
    write_response_framing(fields, options.framing, out);
    let close = options.connection == ConnectionAnnouncement::Close;
    write_connection(&[("close", close), ("Upgrade", upgrade)], out);
    out.extend_from_slice(b"\r\n");
}

fn response_line_travels(
    fields: Fields<'_>,
    connection: ConnectionOptions,
    options: &ResponseForward<'_>,
    upgrade: bool,
    line: FieldView<'_>,
) -> bool {
    let kept = match line.id {
        FieldId::Other => true,
        FieldId::Upgrade => upgrade,
        FieldId::Trailer => options.trailers && options.framing == OutFraming::Chunked,
        id => !is_for_one_hop(id),
    };
    kept && !is_nominated(fields, connection, line)
}

/// Whether the response offers or makes a protocol switch; 426 must name the required protocol (RFC 9110 §15.5.22).
fn announces_upgrade(head: &ResponseHead, options: &ResponseForward<'_>) -> bool {
    options.connection == ConnectionAnnouncement::Upgrade
        || (head.status() == 426 && head.fields().has(FieldId::Upgrade))
}

fn write_response_framing(fields: Fields<'_>, framing: OutFraming, out: &mut Vec<u8>) {
    match framing {
        OutFraming::Length(length) => write_decimal(out, "Content-Length", length),
        OutFraming::Chunked => write_field(out, "Transfer-Encoding", b"chunked"),
        OutFraming::Keep => {
            if let Ok(Some(length)) = content_length(fields) {
                write_decimal(out, "Content-Length", length);
            }
        }
        OutFraming::None | OutFraming::UntilClose => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::tests::response;

    const RESPONSE: ResponseForward<'_> = ResponseForward {
        via: "p",
        framing: OutFraming::Length(3),
        connection: ConnectionAnnouncement::Nothing,
        date: None,
        trailers: false,
    };

    fn returned(text: &str, options: ResponseForward<'_>) -> String {
        let mut out = Vec::new();
        forward_response(&response(text), &options, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_response_loses_hop_by_hop_fields() {
        assert_eq!(
            returned(
                "HTTP/1.0 200 Fine\r\nConnection: X-Hop, close\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\n\
                 TE: x\r\nUpgrade: x\r\nTrailer: x\r\nx-hop: 1\r\nContent-Length: 3\r\nX-A : 1\r\nSet-Cookie: a\r\n\
                 Set-Cookie: b\r\nProxy-Authenticate: x\r\n\r\n",
                RESPONSE
            ),
            "HTTP/1.1 200 Fine\r\nX-A: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nProxy-Authenticate: x\r\n\
             Via: 1.0 p\r\nContent-Length: 3\r\n\r\n"
        );
    }

    #[test]
    fn a_response_is_framed_as_it_will_be_sent() {
        for (framing, line) in [
            (OutFraming::None, ""),
            (OutFraming::Keep, "Content-Length: 12\r\n"),
            (OutFraming::Length(7), "Content-Length: 7\r\n"),
            (OutFraming::Chunked, "Transfer-Encoding: chunked\r\n"),
            (OutFraming::UntilClose, ""),
        ] {
            let received = "HTTP/1.1 200 OK\r\nContent-Length: 012, 12\r\n\r\n";
            let options = ResponseForward {
                framing,
                ..RESPONSE
            };
            let sent = format!("HTTP/1.1 200 OK\r\nVia: 1.1 p\r\n{line}\r\n");
            assert_eq!(returned(received, options), sent);
        }
        let options = ResponseForward {
            framing: OutFraming::Keep,
            ..RESPONSE
        };
        assert_eq!(
            returned(
                "HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\n",
                options
            ),
            "HTTP/1.1 304 x\r\nVia: 1.1 p\r\n\r\n"
        );
    }

    #[test]
    fn trailer_is_announced_only_when_trailers_follow() {
        let received = "HTTP/1.1 200 OK\r\nTrailer: x\r\n\r\n";
        for (framing, trailers, announced) in [
            (OutFraming::Chunked, true, true),
            (OutFraming::Chunked, false, false),
            (OutFraming::UntilClose, true, false),
        ] {
            let options = ResponseForward {
                framing,
                trailers,
                ..RESPONSE
            };
            let sent = returned(received, options);
            assert_eq!(sent.contains("Trailer: x\r\n"), announced);
        }
    }

    #[test]
    fn a_date_is_added_when_the_origin_sent_none() {
        let options = ResponseForward {
            date: Some("now"),
            ..RESPONSE
        };
        let sent = returned("HTTP/1.1 200 OK\r\n\r\n", options);
        assert!(sent.contains("\r\nDate: now\r\n"));
        let sent = returned("HTTP/1.1 200 OK\r\ndate: then\r\n\r\n", options);
        assert!(sent.contains("\r\ndate: then\r\n") && !sent.contains("now"));
    }

    #[test]
    fn only_the_proxy_announces_the_state_of_the_connection() {
        let options = |connection| ResponseForward {
            framing: OutFraming::None,
            connection,
            ..RESPONSE
        };
        let switching =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n";
        assert_eq!(
            returned(switching, options(ConnectionAnnouncement::Upgrade)),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nVia: 1.1 p\r\nConnection: Upgrade\r\n\r\n"
        );
        let required = "HTTP/1.1 426 \r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n";
        assert_eq!(
            returned(required, options(ConnectionAnnouncement::Close)),
            "HTTP/1.1 426 \r\nUpgrade: a\r\nVia: 1.1 p\r\nConnection: close, Upgrade\r\n\r\n"
        );
        let plain = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(
            returned(plain, options(ConnectionAnnouncement::Close)),
            "HTTP/1.1 200 OK\r\nVia: 1.1 p\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            returned(plain, options(ConnectionAnnouncement::Nothing)),
            "HTTP/1.1 200 OK\r\nVia: 1.1 p\r\n\r\n"
        );
    }
}
