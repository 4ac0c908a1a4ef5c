//! What an intermediary must change in a head (RFC 9110 §7.6, RFC 9112 §3.2.2), written straight to the next hop.
//!
//! Received lines keep order, spelling and repeats. What belongs to one hop is left out, with the fields that
//! Connection nominates; Host, framing, Via and the connection fields are the proxy's own and written anew, so
//! that no edit and no peer can make the head say another framing than the body has. Decides nothing about
//! policy: what is upgraded, kept alive or chunked comes in the options.

use crate::encode::{push_decimal, write_decimal, write_field, write_line, write_status_line};
use crate::fields::{ConnectionOptions, FieldId, FieldView, Fields, FieldsMut};
use crate::framing::{BodyFraming, content_length, decimal, names_identity};
use crate::head::{RequestHead, ResponseHead, Version};
use crate::target::Scheme;
use crate::upgrade::RequestedUpgrade;

/// Room for the lines that are the proxy's own.
const OWN_LINES_LEN: usize = 256;

/// How a request is forwarded.
#[derive(Clone, Copy, Debug)]
pub struct RequestForward<'a> {
    /// The pseudonym in Via; empty for no Via line.
    pub via: &'a str,
    /// Names of fields that are left out, in lower case.
    pub drop_fields: &'a [String],
    /// How the forwarded body is framed. A length of 0 is written where the client sent one, and for methods that
    /// expect content (POST, PUT, PATCH, QUERY); `UntilClose` cannot be.
    pub framing: BodyFraming,
    /// The upgrade that is offered to the origin, if it may accept one.
    pub upgrade: Option<RequestedUpgrade<'a>>,
    /// Whom the next hop takes the proxy for.
    pub form: RequestForm<'a>,
}

/// The form of a forwarded request target (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestForm<'a> {
    /// Path and query, to the origin.
    Origin,
    /// An `http` URL, to another proxy, which goes by it alone; Host says the same.
    Absolute {
        /// A name or an IP literal without brackets.
        host: &'a str,
        /// Left out of the URL where it is 80.
        port: u16,
        /// What the other proxy asks of this one. The client's own credentials never go on.
        proxy_authorization: Option<&'a [u8]>,
    },
}

/// How a forwarded response is framed toward the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutFraming {
    /// No framing field at all: 1xx, 204, and 2xx to CONNECT.
    None,
    /// The length the origin announced, for a body that is not sent: HEAD and 304.
    Keep,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// No framing field; the body ends when the proxy closes.
    UntilClose,
}

/// What a forwarded response says about the connection to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionAnnouncement {
    /// Nothing: it is kept.
    Nothing,
    /// It ends after this response.
    Close,
    /// It changes to the protocol that Upgrade names.
    Upgrade,
}

/// How a response is forwarded.
#[derive(Clone, Copy, Debug)]
pub struct ResponseForward<'a> {
    /// The pseudonym in Via; empty for no Via line.
    pub via: &'a str,
    /// How the forwarded body is framed.
    pub framing: OutFraming,
    /// What is said about the connection.
    pub connection: ConnectionAnnouncement,
    /// The date (IMF-fixdate) that is written when the origin sent none.
    pub date: Option<&'a str>,
    /// Whether a trailer section will be forwarded, and so may be announced.
    pub trailers: bool,
}

/// Whether the origin may take the connection for this client's own after such a request (RFC 4559, NTLM): another
/// client must never get it.
pub fn is_connection_bound(head: &RequestHead) -> bool {
    head.fields()
        .named("authorization")
        .any(|value| is_of_connection(value).is_some())
}

/// What an origin says about authenticating connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionChallenge {
    /// It would accept that.
    Offered,
    /// A handshake is under way: the connection is the client's own.
    Begun,
}

/// What a response says about authenticating the connection (RFC 4559 §4.1, NTLM), if anything.
pub fn connection_challenge(head: &ResponseHead) -> Option<ConnectionChallenge> {
    let mut found = None;
    for value in head.fields().named("www-authenticate") {
        for challenge in value.split(|&byte| byte == b',') {
            match is_of_connection(challenge.trim_ascii()) {
                Some(true) => return Some(ConnectionChallenge::Begun),
                Some(false) => found = Some(ConnectionChallenge::Offered),
                None => {}
            }
        }
    }
    found
}

/// Whether credentials or a challenge are of a scheme that authenticates connections, and whether they have a token.
fn is_of_connection(value: &[u8]) -> Option<bool> {
    ["NTLM", "Negotiate"].iter().find_map(|scheme| {
        let (begin, rest) = value.split_at_checked(scheme.len())?;
        let is_whole = rest.first().is_none_or(|byte| b" \t".contains(byte));
        let is_named = is_whole && begin.eq_ignore_ascii_case(scheme.as_bytes());
        is_named.then(|| !rest.trim_ascii().is_empty())
    })
}

/// Whether a response is a stream of events, whose server may have nothing to say for long (`text/event-stream`).
pub fn is_event_stream(head: &ResponseHead) -> bool {
    head.fields().named("content-type").any(|value| {
        let media_type = value.split(|&byte| byte == b';').next().unwrap_or_default();
        media_type
            .trim_ascii()
            .eq_ignore_ascii_case(b"text/event-stream")
    })
}

/// Methods that may be sent twice with the effect of once (RFC 9110 §9.2.2; QUERY: RFC 10008).
pub fn is_idempotent(method: &str) -> bool {
    matches!(
        method,
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" | "QUERY"
    )
}

/// Methods that give content a meaning: without any they announce a length of 0 (RFC 9110 §8.6), as some servers
/// answer 411 otherwise.
fn expects_content(method: &str) -> bool {
    matches!(method, "POST" | "PUT" | "PATCH" | "QUERY")
}

/// Takes out of a head what describes the very bytes of content that are not sent as they came: digests and ranges;
/// a strong validator becomes weak (RFC 9110 §8.8.1).
pub fn forget_digests(fields: &mut FieldsMut<'_>) {
    const OF_THE_BYTES: [&str; 5] = [
        "accept-ranges",
        "content-digest",
        "content-md5",
        "digest",
        "repr-digest",
    ];
    for name in OF_THE_BYTES {
        fields.remove(name);
    }
    let strong = fields
        .view()
        .named("etag")
        .next()
        .filter(|tag| !tag.starts_with(b"W/"))
        .map(|tag| [b"W/", tag].concat());
    if let Some(weak) = strong {
        // A tag that was read as a field value is one with two letters more.
        let _ = fields.set("ETag", &weak);
    }
}

/// Whether the connection that this response came on may carry another exchange (RFC 9112 §9.3).
pub fn is_persistent(head: &ResponseHead) -> bool {
    let connection = head.fields().connection_options();
    let is_kept = match head.version() {
        Version::Http11 | Version::Http2 => !connection.close,
        Version::Http10 => connection.keep_alive && !connection.close,
    };
    // Whoever takes liberties with the grammar may have written more than was understood.
    is_kept && !head.is_relaxed() && !names_identity(head.fields())
}

/// What a TRACE gets back: the request as it was received, without the fields that hold secrets
/// (RFC 9110 §9.3.8).
pub fn trace_content(head: &RequestHead) -> Vec<u8> {
    let mut content = Vec::new();
    content.extend_from_slice(head.method().as_bytes());
    content.push(b' ');
    content.extend_from_slice(head.raw_target());
    content.push(b' ');
    content.extend_from_slice(b"HTTP/");
    content.extend_from_slice(head.version().as_str().as_bytes());
    content.extend_from_slice(b"\r\n");
    for line in head.fields().lines() {
        let is_secret = ["authorization", "proxy-authorization", "cookie"]
            .iter()
            .any(|secret| line.name.eq_ignore_ascii_case(secret.as_bytes()));
        if !is_secret {
            write_line(&mut content, line);
        }
    }
    content.extend_from_slice(b"\r\n");
    content
}

/// How often an OPTIONS or TRACE may still be forwarded (RFC 9110 §7.6.2); `None` when it does not say, or not so
/// that it can be read.
pub fn max_forwards(head: &RequestHead) -> Option<u64> {
    if !head.is_method("OPTIONS") && !head.is_method("TRACE") {
        return None;
    }
    let mut values = head.fields().all(FieldId::MaxForwards);
    let value = decimal(values.next()?)?;
    values.next().is_none().then_some(value)
}

/// Writes the request head for the origin.
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
            // Meant for this hop, or an expectation that HTTP/1.0 does not have (RFC 9110 §10.1.1).
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

fn is_dropped(drop_fields: &[String], name: &[u8]) -> bool {
    drop_fields
        .iter()
        .any(|drop| drop.as_bytes().eq_ignore_ascii_case(name))
}

/// Whether the response offers or makes a change of protocol; 426 has to name what it wants (RFC 9110 §15.5.22).
fn announces_upgrade(head: &ResponseHead, options: &ResponseForward<'_>) -> bool {
    options.connection == ConnectionAnnouncement::Upgrade
        || (head.status() == 426 && head.fields().has(FieldId::Upgrade))
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
            // The last proxy makes the asterisk of OPTIONS out of a missing path (RFC 9112 §3.2.4).
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

/// The version in Via is the one that was received (RFC 9110 §7.6.3).
fn write_via(pseudonym: &str, received: Version, out: &mut Vec<u8>) {
    if pseudonym.is_empty() {
        return;
    }
    out.extend_from_slice(b"Via: ");
    out.extend_from_slice(received.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(pseudonym.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Whether an intermediary that goes by `pseudonym` has forwarded the request before (RFC 9110 §7.6.3).
pub fn is_named_in_via(head: &RequestHead, pseudonym: &str) -> bool {
    let fields = head.fields();
    // Most requests end here.
    fields.has(FieldId::Via)
        && fields.members(FieldId::Via).any(|member| {
            let words = member.split(|byte| byte.is_ascii_whitespace());
            let mut words = words.filter(|word| !word.is_empty());
            words.nth(1) == Some(pseudonym.as_bytes())
        })
}

/// The value of Via that a request has when it goes on: what it came with, and `pseudonym`.
pub fn via_value(head: &RequestHead, pseudonym: &str) -> Vec<u8> {
    let mut value = Vec::new();
    for received in head.fields().all(FieldId::Via) {
        value.extend_from_slice(received);
        value.extend_from_slice(b", ");
    }
    value.extend_from_slice(head.version().as_str().as_bytes());
    value.push(b' ');
    value.extend_from_slice(pseudonym.as_bytes());
    value
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

/// TE and Upgrade for the next hop, and the Connection that goes with them (RFC 9110 §10.1.4, §7.8).
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::request_framing;
    use crate::head::tests::{request, response};
    use crate::upgrade::requested_upgrade;

    const REQUEST: RequestForward<'_> = RequestForward {
        via: "p",
        drop_fields: &[],
        framing: BodyFraming::Empty,
        upgrade: None,
        form: RequestForm::Origin,
    };

    const RESPONSE: ResponseForward<'_> = ResponseForward {
        via: "p",
        framing: OutFraming::Length(3),
        connection: ConnectionAnnouncement::Nothing,
        date: None,
        trailers: false,
    };

    /// The head as it is forwarded with the framing and the upgrade that it asks for.
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
    fn host_that_is_missing_is_the_connections() {
        for (port, written) in [(443, "a"), (8443, "a:8443")] {
            let mut head = request("GET / HTTP/1.0\r\n\r\n");
            head.settle_origin(Scheme::Https, "a", port);
            let mut out = Vec::new();
            write_host(&head, RequestForm::Origin, b"Host", &mut out);
            assert_eq!(out, format!("Host: {written}\r\n").into_bytes());
        }
    }

    #[test]
    fn host_keeps_a_port_that_is_not_the_connections() {
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
            // A plugin that names another host names its port.
            head.set_host("b", 1).unwrap();
            out.clear();
            write_host(&head, RequestForm::Origin, b"Host", &mut out);
            assert_eq!(out, b"Host: b:1\r\n");
        }
    }

    fn returned(text: &str, options: ResponseForward<'_>) -> String {
        let mut out = Vec::new();
        forward_response(&response(text), &options, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn assert_forwards(received: &str, sent: &str) {
        assert_eq!(forwarded(received, REQUEST), sent);
    }

    #[test]
    fn a_request_goes_to_the_origin_in_origin_form() {
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
    fn a_request_goes_to_a_parent_in_absolute_form_with_credentials_of_our_own() {
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
    fn a_request_that_was_here_before_is_known_by_via() {
        let head = |fields: &str| {
            request(&format!(
                "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n{fields}\r\n"
            ))
        };
        for (fields, expected) in [
            ("Via: 1.1 p-1\r\n", true),
            ("Via: 1.0 x, 1.1 p-1 (comment)\r\n", true),
            ("Via: 1.0 x\r\nvia: HTTP/2.0   p-1\r\n", true),
            ("Via: 1.1 p-12\r\n", false),
            ("Via: 1.1 P-1\r\n", false),
            ("Via: 1.1 x (p-1)\r\n", false),
            ("Via: p-1 x\r\n", false),
            ("Via: p-1\r\n", false),
            ("Via:\r\n", false),
            ("X-Via: 1.1 p-1\r\n", false),
            ("", false),
        ] {
            assert_eq!(is_named_in_via(&head(fields), "p-1"), expected, "{fields}");
        }
        let value = |fields| String::from_utf8(via_value(&head(fields), "p-1")).unwrap();
        assert_eq!(value(""), "1.1 p-1");
        assert_eq!(
            value("Via: 1.0 x, 1.1 y (c)\r\nvia: 1.1 z\r\n"),
            "1.0 x, 1.1 y (c), 1.1 z, 1.1 p-1"
        );
    }

    #[test]
    fn what_is_for_one_hop_stays_there() {
        assert_forwards(
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop\r\nconnection: y-hop, via, host\r\n\
             Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\n\
             Proxy-Authenticate: x\r\nTE: trailers\r\nUpgrade: websocket\r\nHTTP2-Settings: x\r\nTrailer: x\r\n\
             x-hop: 1\r\nX-Hop: 2\r\nY-Hop: 3\r\nVia: 1.1 q\r\nX-Stay: 4\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 q\r\nVia: 1.1 p\r\nX-Stay: 4\r\n\r\n",
        );
    }

    #[test]
    fn the_body_keeps_its_framing_and_nothing_else_may_name_one() {
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
    fn methods_that_expect_content_say_that_there_is_none() {
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
    fn query_is_idempotent_and_post_is_not() {
        assert!(is_idempotent("QUERY"));
        assert!(!is_idempotent("POST"));
        assert!(!is_idempotent("query"));
    }

    #[test]
    fn te_goes_on_when_it_says_trailers_and_connection_lists_it() {
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
    fn an_upgrade_is_offered_with_the_protocols_that_may_pass() {
        assert_forwards(
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nUpgrade: h2c, websocket, TLS/1.0\r\nUpgrade: http/3, x/2\r\n\
             Connection: upgrade, HTTP2-Settings, te\r\nHTTP2-Settings: x\r\nTE: trailers\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 p\r\nTE: trailers\r\nUpgrade: websocket, x/2\r\n\
             Connection: TE, Upgrade\r\n\r\n",
        );
    }

    #[test]
    fn credentials_of_a_connection_bind_it_to_its_client() {
        for (fields, expected) in [
            ("Authorization: NTLM x\r\n", true),
            ("authorization: ntlm\r\n", true),
            ("Authorization: Negotiate x\r\n", true),
            (
                "A: b\r\nAuthorization: Basic x\r\nAuthorization: negotiate x\r\n",
                true,
            ),
            ("Authorization: Basic NTLM\r\n", false),
            ("Authorization: NT\r\n", false),
            ("Authorization: NTLM2 x\r\n", false),
            ("Authorization: Bearer x\r\n", false),
            ("Authorization:\r\n", false),
            ("Proxy-Authorization: NTLM x\r\n", false),
            ("", false),
        ] {
            let head = request(&format!(
                "GET http://a/ HTTP/1.1\r\nHost: a\r\n{fields}\r\n"
            ));
            assert_eq!(is_connection_bound(&head), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_challenge_tells_whether_a_handshake_has_begun() {
        use ConnectionChallenge::{Begun, Offered};
        for (fields, expected) in [
            ("WWW-Authenticate: NTLM\r\n", Some(Offered)),
            (
                "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n",
                Some(Offered),
            ),
            (
                "www-authenticate: Basic realm=\"a\", ntlm\r\n",
                Some(Offered),
            ),
            ("WWW-Authenticate: NTLM TlRMTVNTUAAC\r\n", Some(Begun)),
            ("WWW-Authenticate: negotiate  oYH=\r\n", Some(Begun)),
            ("WWW-Authenticate: Basic realm=\"NTLM x\"\r\n", None),
            ("WWW-Authenticate: NTLM2 x\r\n", None),
            ("WWW-Authenticate: Bearer\r\n", None),
            ("WWW-Authenticate:\r\n", None),
            ("", None),
        ] {
            let head = response(&format!("HTTP/1.1 401 Unauthorized\r\n{fields}\r\n"));
            assert_eq!(connection_challenge(&head), expected, "{fields:?}");
        }
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

    #[test]
    fn a_response_loses_what_is_for_one_hop() {
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
    fn the_connection_is_announced_by_the_proxy_alone() {
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
