//! Writes the request head for the next hop: its form, Host, TE and Upgrade (RFC 9112 §3.2).

use super::{OWN_LINES_LEN, is_for_one_hop, is_nominated, write_connection};
use crate::encode::{push_decimal, write_decimal, write_field, write_line};
use crate::fields::{ConnectionOptions, FieldId, FieldView, Fields};
use crate::framing::BodyFraming;
use crate::head::{RequestHead, Version};
use crate::method::expects_content;
use crate::target::Scheme;
use crate::trace::max_forwards;
use crate::upgrade::RequestedUpgrade;
use crate::via::write_via;

/// Options for forwarding a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestForward<'a> {
    /// The pseudonym in Via; empty for no Via line.
    pub via: &'a str,
    /// Names of fields to omit, in lower case.
    pub drop_fields: &'a [String],
    /// The framing of the forwarded body. A length of 0 is written if the client sent one, and for methods that expect
    /// content (POST, PUT, PATCH, QUERY); must not be `UntilClose`.
    pub framing: BodyFraming,
    /// The upgrade to offer to the origin, if any.
    pub upgrade: Option<RequestedUpgrade<'a>>,
    /// The form of the request target.
    pub form: RequestForm<'a>,
}

/// The form of a forwarded request target (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestForm<'a> {
    /// Path and query, for an origin.
    Origin,
    /// An `http` URL, for another proxy, which uses only the URL; Host has the same value.
    Absolute {
        /// A name or an IP literal without brackets.
        host: &'a str,
        /// Omitted from the URL if it is 80.
        port: u16,
        /// Credentials for the other proxy. Those of the client are never forwarded.
        proxy_authorization: Option<&'a [u8]>,
    },
}

/// Writes the request head for the next hop.
pub fn forward_request(head: &RequestHead, options: &RequestForward<'_>, out: &mut Vec<u8>) {
    let fields = head.fields();
    let connection = fields.connection_options();
    let host_at = fields.first_index(FieldId::Host);
    let via_at = fields.last_index(FieldId::Via);
    let forwards_left = max_forwards(head).map(|left| left.saturating_sub(1));

    write_request_line(head, options.form, out);
    if host_at.is_none() {
        write_host(head, options.form, b"Host", out);
    }
    for (index, line) in fields.lines().enumerate() {
        if host_at == Some(index) {
            write_host(head, options.form, line.name, out);
        } else if !request_line_travels(fields, connection, options, line)
            || (line.id == FieldId::Expect && head.version() == Version::Http10)
        {
            // For this hop, or an expectation that HTTP/1.0 does not support (RFC 9110 §10.1.1).
        } else if let (FieldId::MaxForwards, Some(left)) = (line.id, forwards_left) {
            write_decimal(out, line.name, left);
        } else {
            write_line(out, line);
        }
        if via_at == Some(index) {
            write_via(options.via, head.version(), out);
        }
    }
    if via_at.is_none() {
        write_via(options.via, head.version(), out);
    }
    if let RequestForm::Absolute {
        proxy_authorization: Some(value),
        ..
    } = options.form
    {
        write_field(out, "Proxy-Authorization", value);
    }
    write_request_framing(head, options.framing, out);
    write_request_connection(fields, connection, options.upgrade, out);
    out.extend_from_slice(b"\r\n");
}

fn request_line_travels(
    fields: Fields<'_>,
    connection: ConnectionOptions,
    options: &RequestForward<'_>,
    line: FieldView<'_>,
) -> bool {
    let kept = match line.id {
        FieldId::Other => true,
        FieldId::Host | FieldId::ProxyAuthorization | FieldId::ProxyAuthenticate => false,
        FieldId::Trailer => options.framing == BodyFraming::Chunked,
        id => !is_for_one_hop(id),
    };
    kept && !is_nominated(fields, connection, line) && !is_dropped(options.drop_fields, line.name)
}

fn is_dropped(drop_fields: &[String], name: &[u8]) -> bool {
    drop_fields
        .iter()
        .any(|drop| drop.as_bytes().eq_ignore_ascii_case(name))
}

fn write_request_line(head: &RequestHead, form: RequestForm<'_>, out: &mut Vec<u8>) {
    let path = match head.path() {
        b"" => head.raw_target(),
        path => path,
    };
    out.reserve(path.len() + OWN_LINES_LEN);
    out.extend_from_slice(head.method().as_bytes());
    out.push(b' ');
    match form {
        RequestForm::Origin => out.extend_from_slice(path),
        RequestForm::Absolute { host, port, .. } => {
            out.extend_from_slice(b"http://");
            write_authority(host, port, out);
            // The last proxy turns a missing path into the asterisk of OPTIONS (RFC 9112 §3.2.4).
            if path != b"*" {
                out.extend_from_slice(path);
            }
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

fn write_host(head: &RequestHead, form: RequestForm<'_>, name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    match form {
        RequestForm::Origin => head.write_host(out),
        RequestForm::Absolute { host, port, .. } => write_authority(host, port, out),
    }
    out.extend_from_slice(b"\r\n");
}

fn write_authority(host: &str, port: u16, out: &mut Vec<u8>) {
    if host.contains(':') {
        out.push(b'[');
        out.extend_from_slice(host.as_bytes());
        out.push(b']');
    } else {
        out.extend_from_slice(host.as_bytes());
    }
    if port != Scheme::Http.default_port() {
        out.push(b':');
        push_decimal(out, u64::from(port));
    }
}

fn write_request_framing(head: &RequestHead, framing: BodyFraming, out: &mut Vec<u8>) {
    debug_assert_ne!(framing, BodyFraming::UntilClose);
    match framing {
        BodyFraming::Empty if expects_content(head.method()) => {
            write_decimal(out, "Content-Length", 0);
        }
        BodyFraming::Length(0)
            if !head.fields().has(FieldId::ContentLength) && !expects_content(head.method()) => {}
        BodyFraming::Length(length) => write_decimal(out, "Content-Length", length),
        BodyFraming::Chunked => write_field(out, "Transfer-Encoding", b"chunked"),
        BodyFraming::Empty | BodyFraming::UntilClose => {}
    }
}

/// Writes TE and Upgrade for the next hop, and the matching Connection (RFC 9110 §10.1.4, §7.8).
fn write_request_connection(
    fields: Fields<'_>,
    connection: ConnectionOptions,
    upgrade: Option<RequestedUpgrade<'_>>,
    out: &mut Vec<u8>,
) {
    let te = connection.te
        && fields
            .members(FieldId::Te)
            .any(|member| member.eq_ignore_ascii_case(b"trailers"));
    if te {
        write_field(out, "TE", b"trailers");
    }
    if let Some(upgrade) = upgrade {
        write_upgrade(upgrade, out);
    }
    write_connection(&[("TE", te), ("Upgrade", upgrade.is_some())], out);
}

fn write_upgrade(upgrade: RequestedUpgrade<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Upgrade: ");
    for (index, protocol) in upgrade.protocols().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(protocol);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::request_framing;
    use crate::head::tests::request;
    use crate::upgrade::requested_upgrade;

    const REQUEST: RequestForward<'_> = RequestForward {
        via: "p",
        drop_fields: &[],
        framing: BodyFraming::Empty,
        upgrade: None,
        form: RequestForm::Origin,
    };

    /// The forwarded head, with the framing and the upgrade that the request has.
    fn forwarded(text: &str, options: RequestForward<'_>) -> String {
        let head = request(text);
        let options = RequestForward {
            framing: request_framing(&head).unwrap(),
            upgrade: requested_upgrade(&head),
            ..options
        };
        let mut out = Vec::new();
        forward_request(&head, &options, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_missing_host_is_that_of_the_connection() {
        for (port, written) in [(443, "a"), (8443, "a:8443")] {
            let mut head = request("GET / HTTP/1.0\r\n\r\n");
            head.settle_origin(Scheme::Https, "a", port);
            let mut out = Vec::new();
            write_host(&head, RequestForm::Origin, b"Host", &mut out);
            assert_eq!(out, format!("Host: {written}\r\n").into_bytes());
        }
    }

    #[test]
    fn host_keeps_a_port_that_differs_from_the_connections() {
        for (host, port, written) in [
            ("a:8443", 443, "a:8443"),
            ("a:443", 8443, "a"),
            ("a", 8443, "a"),
            ("a:8443", 8443, "a:8443"),
            ("[::1]:1", 443, "[::1]:1"),
        ] {
            let mut head = request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            head.settle_origin(Scheme::Https, "a", port);
            assert_eq!(head.port(), port);
            let mut out = Vec::new();
            write_host(&head, RequestForm::Origin, b"Host", &mut out);
            assert_eq!(out, format!("Host: {written}\r\n").into_bytes());
            // A plugin that sets another host sets its port, too.
            head.set_host("b", 1).unwrap();
            out.clear();
            write_host(&head, RequestForm::Origin, b"Host", &mut out);
            assert_eq!(out, b"Host: b:1\r\n");
        }
    }

    #[track_caller]
    fn assert_forwards(received: &str, sent: &str) {
        assert_eq!(forwarded(received, REQUEST), sent);
    }

    #[test]
    fn a_request_to_the_origin_is_in_origin_form() {
        assert_forwards(
            "GET http://Example.com:8080/a?b HTTP/1.1\r\nUser-Agent: x\r\nhOST: other\r\nAccept:*/*\r\naccept: b\r\n\r\n",
            "GET /a?b HTTP/1.1\r\nUser-Agent: x\r\nhOST: example.com:8080\r\nAccept: */*\r\naccept: b\r\nVia: 1.1 p\r\n\r\n",
        );
        assert_forwards(
            "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\nVia: 1.1 p\r\n\r\n",
        );
    }

    #[test]
    fn a_request_to_a_parent_is_in_absolute_form_with_our_credentials() {
        let to_parent = |host, port, proxy_authorization| RequestForward {
            form: RequestForm::Absolute {
                host,
                port,
                proxy_authorization,
            },
            ..REQUEST
        };
        let received =
            "GET http://a/b?c HTTP/1.1\r\nhost: a\r\nProxy-Authorization: Basic x\r\n\r\n";
        assert_eq!(
            forwarded(received, to_parent("a", 80, None)),
            "GET http://a/b?c HTTP/1.1\r\nhost: a\r\nVia: 1.1 p\r\n\r\n"
        );
        assert_eq!(
            forwarded(received, to_parent("::1", 81, Some(b"Basic own"))),
            "GET http://[::1]:81/b?c HTTP/1.1\r\nhost: [::1]:81\r\nVia: 1.1 p\r\n\
             Proxy-Authorization: Basic own\r\n\r\n"
        );
        assert_eq!(
            forwarded(
                "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
                to_parent("a", 80, None)
            ),
            "OPTIONS http://a HTTP/1.1\r\nHost: a\r\nVia: 1.1 p\r\n\r\n"
        );
        assert_eq!(
            forwarded(
                "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n",
                to_parent("a", 80, None)
            ),
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nVia: 1.1 p\r\n\r\n"
        );
    }

    #[test]
    fn a_request_without_host_gets_one() {
        assert_forwards(
            "GET http://a/ HTTP/1.0\r\nA: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nVia: 1.0 p\r\n\r\n",
        );
    }

    #[test]
    fn via_follows_the_last_one_received() {
        assert_forwards(
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nVia: 1.0 x\r\nB: c\r\nvia: 1.1 y\r\nD: e\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 x\r\nB: c\r\nvia: 1.1 y\r\nVia: 1.1 p\r\nD: e\r\n\r\n",
        );
        let options = RequestForward { via: "", ..REQUEST };
        assert_eq!(
            forwarded("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", options),
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        );
    }

    #[test]
    fn hop_by_hop_fields_are_removed() {
        assert_forwards(
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop\r\nconnection: y-hop, via, host\r\n\
             Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\n\
             Proxy-Authenticate: x\r\nTE: trailers\r\nUpgrade: websocket\r\nHTTP2-Settings: x\r\nTrailer: x\r\n\
             x-hop: 1\r\nX-Hop: 2\r\nY-Hop: 3\r\nVia: 1.1 q\r\nX-Stay: 4\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 q\r\nVia: 1.1 p\r\nX-Stay: 4\r\n\r\n",
        );
    }

    #[test]
    fn the_body_keeps_its_framing_and_no_field_contradicts_it() {
        assert_forwards(
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 005, 5\r\nTrailer: x\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nVia: 1.1 p\r\nContent-Length: 5\r\n\r\n",
        );
        assert_forwards(
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\n\
             transfer-encoding: CHUNKED\r\nTrailer: x\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTrailer: x\r\nVia: 1.1 p\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        assert_forwards(
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nVia: 1.1 p\r\nContent-Length: 0\r\n\r\n",
        );
        let head = request("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n");
        let framing = BodyFraming::Length(0);
        let mut out = Vec::new();
        forward_request(&head, &RequestForward { framing, ..REQUEST }, &mut out);
        assert_eq!(out, b"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 p\r\n\r\n");
    }

    #[test]
    fn methods_that_expect_content_announce_its_absence() {
        for (method, length) in [
            ("POST", "Content-Length: 0\r\n"),
            ("PUT", "Content-Length: 0\r\n"),
            ("PATCH", "Content-Length: 0\r\n"),
            ("QUERY", "Content-Length: 0\r\n"),
            ("DELETE", ""),
            ("OPTIONS", ""),
            ("post", ""),
        ] {
            assert_forwards(
                &format!("{method} http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
                &format!("{method} / HTTP/1.1\r\nHost: a\r\nVia: 1.1 p\r\n{length}\r\n"),
            );
        }
    }

    #[test]
    fn te_is_forwarded_if_it_is_trailers_and_in_connection() {
        assert_forwards(
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nTE: gzip;q=0.5, Trailers\r\nConnection: te\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 p\r\nTE: trailers\r\nConnection: TE\r\n\r\n",
        );
        assert_forwards(
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nTE: gzip\r\nConnection: te\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 p\r\n\r\n",
        );
    }

    #[test]
    fn an_upgrade_is_offered_with_the_allowed_protocols() {
        assert_forwards(
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nUpgrade: h2c, websocket, TLS/1.0\r\nUpgrade: http/3, x/2\r\n\
             Connection: upgrade, HTTP2-Settings, te\r\nHTTP2-Settings: x\r\nTE: trailers\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 p\r\nTE: trailers\r\nUpgrade: websocket, x/2\r\n\
             Connection: TE, Upgrade\r\n\r\n",
        );
    }

    #[test]
    fn max_forwards_counts_down_for_options_and_trace_only() {
        for (method, value, left, sent) in [
            ("OPTIONS", "10", Some(10), "9"),
            ("TRACE", "1", Some(1), "0"),
            ("TRACE", "0", Some(0), "0"),
            ("GET", "10", None, "10"),
            ("TRACE", "-1", None, "-1"),
            ("TRACE", "x", None, "x"),
        ] {
            let text =
                format!("{method} http://a/ HTTP/1.1\r\nHost: a\r\nmax-forwards: {value}\r\n\r\n");
            assert_eq!(max_forwards(&request(&text)), left, "{text}");
            let line = format!("\r\nmax-forwards: {sent}\r\n");
            assert!(forwarded(&text, REQUEST).contains(&line), "{text}");
        }
    }

    #[test]
    fn configured_fields_are_dropped() {
        let drop_fields = &["user-agent".to_owned(), "host".to_owned()];
        let options = RequestForward {
            drop_fields,
            ..REQUEST
        };
        assert_eq!(
            forwarded(
                "GET http://a/ HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\n\r\n",
                options
            ),
            "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 p\r\n\r\n"
        );
    }

    #[test]
    fn edits_cannot_add_a_second_host_or_another_framing() {
        let mut head = request("GET http://a/ HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n");
        let mut fields = head.fields_mut();
        fields.append("Host", b"b").unwrap();
        fields.append("Content-Length", b"7").unwrap();
        fields.set("Transfer-Encoding", b"chunked").unwrap();
        fields.set("X", b"2").unwrap();
        let mut out = Vec::new();
        forward_request(&head, &REQUEST, &mut out);
        assert_eq!(
            out,
            b"GET / HTTP/1.1\r\nHost: a\r\nX: 2\r\nVia: 1.1 p\r\n\r\n"
        );
    }
}
