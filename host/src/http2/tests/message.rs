//! The rules of conversion, as tables and for random messages.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

use super::super::message::*;
use crate::http1::{
    BodyFraming, HeadKind, HeadLimits, HeadScanner, RequestHead, Scheme, request_framing,
};

const ABSOLUTE: RequestTargets = RequestTargets::Absolute {
    default_scheme: Scheme::Https,
    answers_https: false,
};
const ANSWERS_HTTPS: RequestTargets = RequestTargets::Absolute {
    default_scheme: Scheme::Http,
    answers_https: true,
};

fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request = request.header(*name, value);
    }
    request.body(()).unwrap()
}

fn written(
    request: Request<()>,
    has_content: bool,
    targets: RequestTargets,
) -> Result<(String, RequestKind, IncomingBody), MessageError> {
    let mut out = Vec::new();
    let (kind, body) = write_request(
        &request.into_parts().0,
        None,
        has_content,
        targets,
        &mut out,
    )?;
    Ok((String::from_utf8_lossy(&out).into_owned(), kind, body))
}

#[test]
fn host_and_authority_are_compared_normalised() {
    for (uri, host, is_same) in [
        ("http://a:80/", "a", true),
        ("http://a/", "a:80", true),
        ("http://A/", "a:", true),
        ("https://a:443/", "A", true),
        ("https://[::1]:443/", "[::1]", true),
        ("http://[::1]/", "[::1]:80", true),
        ("https://a/", "a:80", false),
        ("http://a:443/", "a", false),
        ("http://a:80/", "a:81", false),
        ("http://a/", "a:x", false),
        ("http://a/", "a:80:80", false),
        ("http://[::1]/", "[::1", false),
        ("http://a/", "b", false),
        ("http://a/", "", false),
    ] {
        for targets in [ABSOLUTE, RequestTargets::Origin] {
            let result = written(request("GET", uri, &[("host", host)]), false, targets);
            match is_same {
                true => assert!(result.is_ok(), "{uri} {host:?}: {result:?}"),
                false => assert_eq!(result, Err(MessageError::HostConflict), "{uri} {host:?}"),
            }
        }
    }
}

#[test]
fn an_original_path_is_written_unchanged_and_ends_no_line() {
    for (path, targets, target) in [
        (&b"/a#b"[..], RequestTargets::Origin, &b"/a#b"[..]),
        (b"/<\">`{|}", ABSOLUTE, b"http://a/<\">`{|}"),
        (
            b"/a b\r\n\r\n\x7f\0",
            ABSOLUTE,
            b"http://a/a\x1ab\x1a\x1a\x1a\x1a\x1a\x1a",
        ),
        (b"/\xff", RequestTargets::Origin, b"/\xff"),
    ] {
        let (parts, ()) = request("GET", "http://a/shown", &[]).into_parts();
        let mut out = Vec::new();
        write_request(&parts, Some(path), false, targets, &mut out).unwrap();
        assert_eq!(
            out,
            [b"GET ", target, b" HTTP/1.1\r\nhost: a\r\n\r\n"].concat()
        );
    }
    let (parts, ()) = request("GET", "http://a/shown", &[]).into_parts();
    let result = write_request(&parts, Some(b".b/"), false, ABSOLUTE, &mut Vec::new());
    assert_eq!(result, Err(MessageError::PathInvalid));
}

#[test]
fn requests_become_text() {
    for (method, uri, fields, has_content, targets, text) in [
        (
            "GET",
            "http://a.b:81/c?d",
            &[("accept", "*/*")][..],
            false,
            ABSOLUTE,
            "GET http://a.b:81/c?d HTTP/1.1\r\nhost: a.b:81\r\naccept: */*\r\n\r\n",
        ),
        (
            "GET",
            "https://a/c",
            &[("host", "A")],
            false,
            RequestTargets::Origin,
            "GET /c HTTP/1.1\r\nhost: a\r\n\r\n",
        ),
        (
            "GET",
            "/c",
            &[("host", "b")],
            false,
            ABSOLUTE,
            "GET https://b/c HTTP/1.1\r\nhost: b\r\n\r\n",
        ),
        ("GET", "/c", &[], false, ABSOLUTE, "GET /c HTTP/1.1\r\n\r\n"),
        (
            "GET",
            "https://own.example:8899/c?d",
            &[],
            false,
            ANSWERS_HTTPS,
            "GET /c?d HTTP/1.1\r\nhost: own.example:8899\r\n\r\n",
        ),
        (
            "GET",
            "http://o.example/c",
            &[],
            false,
            ANSWERS_HTTPS,
            "GET http://o.example/c HTTP/1.1\r\nhost: o.example\r\n\r\n",
        ),
        (
            "OPTIONS",
            "*",
            &[("host", "b")],
            false,
            ABSOLUTE,
            "OPTIONS https://b HTTP/1.1\r\nhost: b\r\n\r\n",
        ),
        (
            "OPTIONS",
            "*",
            &[("host", "b")],
            false,
            RequestTargets::Origin,
            "OPTIONS * HTTP/1.1\r\nhost: b\r\n\r\n",
        ),
        (
            "POST",
            "http://a/",
            &[],
            true,
            ABSOLUTE,
            "POST http://a/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (
            "POST",
            "http://a/",
            &[("content-length", "5"), ("expect", "100-continue")],
            true,
            ABSOLUTE,
            "POST http://a/ HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
        ),
        (
            "POST",
            "http://a/",
            &[("content-length", "0"), ("content-length", "0")],
            false,
            ABSOLUTE,
            "POST http://a/ HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            "GET",
            "http://a/",
            &[
                ("cookie", "a=1"),
                ("x", "y"),
                ("cookie", "b=2"),
                ("cookie", "c"),
            ],
            false,
            ABSOLUTE,
            "GET http://a/ HTTP/1.1\r\nhost: a\r\ncookie: a=1; b=2; c\r\nx: y\r\n\r\n",
        ),
        (
            "GET",
            "http://a/",
            &[("te", "trailers")],
            false,
            ABSOLUTE,
            "GET http://a/ HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: TE\r\n\r\n",
        ),
        (
            "CONNECT",
            "a:443",
            &[],
            true,
            ABSOLUTE,
            "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n",
        ),
    ] {
        let (out, kind, body) =
            written(request(method, uri, fields), has_content, targets).unwrap();
        assert_eq!(out, text);
        let expected = match (method, has_content) {
            ("CONNECT", _) => (RequestKind::Tunnel, IncomingBody::Tunnel),
            (_, false) => (RequestKind::Ordinary, IncomingBody::Empty),
            _ if text.contains("chunked") => (RequestKind::Ordinary, IncomingBody::Chunked),
            _ => (RequestKind::Ordinary, IncomingBody::Length(5)),
        };
        assert_eq!((kind, body), expected, "{text}");
    }
}

#[test]
fn refuses_what_would_have_another_meaning_in_text() {
    for (method, uri, fields, error) in [
        ("GET", "http://u@a/", &[][..], MessageError::Userinfo),
        (
            "GET",
            "http://a/",
            &[("host", "b")],
            MessageError::HostConflict,
        ),
        (
            "GET",
            "http://a/",
            &[("host", "a"), ("host", "a")],
            MessageError::HostConflict,
        ),
        ("GET", "*", &[("host", "b")], MessageError::PathInvalid),
        (
            "GET",
            "http://a/",
            &[("x", " y")],
            MessageError::ValuePadded,
        ),
        (
            "GET",
            "http://a/",
            &[("x", "y\t")],
            MessageError::ValuePadded,
        ),
        (
            "GET",
            "http://a/",
            &[("cookie", "y ")],
            MessageError::ValuePadded,
        ),
        ("GET", "/", &[("host", " a")], MessageError::ValuePadded),
        (
            "GET",
            "http://a/",
            &[("connection", "x")],
            MessageError::ConnectionField,
        ),
        (
            "GET",
            "http://a/",
            &[("keep-alive", "x")],
            MessageError::ConnectionField,
        ),
        (
            "GET",
            "http://a/",
            &[("proxy-connection", "x")],
            MessageError::ConnectionField,
        ),
        (
            "GET",
            "http://a/",
            &[("transfer-encoding", "chunked")],
            MessageError::ConnectionField,
        ),
        (
            "GET",
            "http://a/",
            &[("upgrade", "x")],
            MessageError::ConnectionField,
        ),
        (
            "GET",
            "http://a/",
            &[("te", "gzip")],
            MessageError::ConnectionField,
        ),
        (
            "POST",
            "http://a/",
            &[("content-length", "")],
            MessageError::LengthInvalid,
        ),
        (
            "POST",
            "http://a/",
            &[("content-length", "+1")],
            MessageError::LengthInvalid,
        ),
        (
            "POST",
            "http://a/",
            &[("content-length", "1"), ("content-length", "2")],
            MessageError::LengthInvalid,
        ),
        (
            "CONNECT",
            "/",
            &[("host", "a:1")],
            MessageError::AuthorityMissing,
        ),
    ] {
        let refused = written(request(method, uri, fields), true, ABSOLUTE);
        assert_eq!(refused, Err(error), "{method} {uri} {fields:?}");
    }
}

#[test]
fn a_websocket_gets_the_handshake_of_http_1() {
    let mut asking = request(
        "CONNECT",
        "https://a/chat",
        &[
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "its own"),
        ],
    );
    asking
        .extensions_mut()
        .insert(h2::ext::Protocol::from_static("websocket"));
    let (text, kind, body) = written(asking, true, RequestTargets::Origin).unwrap();
    let start = "GET /chat HTTP/1.1\r\nhost: a\r\nsec-websocket-version: 13\r\nupgrade: websocket\r\nsec-websocket-key: ";
    let rest = text.strip_prefix(start).expect(&text);
    let key = rest
        .strip_suffix("\r\nconnection: Upgrade\r\n\r\n")
        .expect(rest);
    assert_eq!(body, IncomingBody::Tunnel);
    let RequestKind::WebSocket(accept) = &kind else {
        panic!("{kind:?}");
    };
    assert_eq!(*accept, super::super::websocket_key::accept(key.as_bytes()));

    let accepting = |accept: &str| {
        let text = format!(
            "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: p\r\n\r\n"
        );
        read_response(&Bytes::from(text), &kind)
    };
    let (response, body) = accepting(str::from_utf8(accept).unwrap()).unwrap();
    assert_eq!(
        (response.status().as_u16(), body),
        (200, OutgoingBody::Tunnel)
    );
    assert_eq!(response.headers().len(), 1);
    assert!(accepting("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").is_err());

    let mut other = request("CONNECT", "https://a/chat", &[]);
    other
        .extensions_mut()
        .insert(h2::ext::Protocol::from_static("connect-udp"));
    let refused = written(other, true, RequestTargets::Origin);
    assert_eq!(refused, Err(MessageError::ProtocolUnknown));
}

fn response(status: u16, fields: &[(&str, &str)]) -> http::response::Parts {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap().into_parts().0
}

#[test]
fn responses_become_text() {
    use RequestKind::*;
    let content = |text: &'static str, body| (text, body);
    for (status, fields, has_content, kind, (text, body)) in [
        (
            200,
            &[
                ("content-length", "5"),
                ("set-cookie", "a"),
                ("set-cookie", "b"),
            ][..],
            true,
            Ordinary,
            content(
                "HTTP/1.1 200 OK\r\nset-cookie: a\r\nset-cookie: b\r\ncontent-length: 5\r\n\r\n",
                IncomingBody::Length(5),
            ),
        ),
        (
            200,
            &[],
            true,
            Ordinary,
            content(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                IncomingBody::Chunked,
            ),
        ),
        (
            299,
            &[],
            false,
            Ordinary,
            content(
                "HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n",
                IncomingBody::Empty,
            ),
        ),
        (
            200,
            &[("content-length", "7")],
            false,
            Head,
            content(
                "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
                IncomingBody::Empty,
            ),
        ),
        (
            200,
            &[],
            true,
            Head,
            content("HTTP/1.1 200 OK\r\n\r\n", IncomingBody::Empty),
        ),
        (
            204,
            &[("x", "y")],
            false,
            Ordinary,
            content(
                "HTTP/1.1 204 No Content\r\nx: y\r\n\r\n",
                IncomingBody::Empty,
            ),
        ),
        (
            304,
            &[("content-length", "7")],
            false,
            Ordinary,
            content(
                "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
                IncomingBody::Empty,
            ),
        ),
        (
            103,
            &[("link", "</a>")],
            false,
            Ordinary,
            content(
                "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
                IncomingBody::Empty,
            ),
        ),
        (
            200,
            &[],
            true,
            WebSocket(*b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            content(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
                IncomingBody::Tunnel,
            ),
        ),
        (
            403,
            &[],
            false,
            WebSocket([0; 28]),
            content(
                "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
                IncomingBody::Empty,
            ),
        ),
    ] {
        let mut out = Vec::new();
        let parts = response(status, fields);
        let result = write_response(&parts, has_content, &kind, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), text);
        assert_eq!(result, Ok(body), "{text}");
    }
    for (status, fields, error) in [
        (101, ("x", "y"), MessageError::SwitchingProtocols),
        (200, ("connection", "close"), MessageError::ConnectionField),
        (200, ("content-length", "x"), MessageError::LengthInvalid),
    ] {
        let parts = response(status, &[fields]);
        let result = write_response(&parts, true, &Ordinary, &mut Vec::new());
        assert_eq!(result, Err(error), "{fields:?}");
    }
}

#[test]
fn white_space_around_a_value_of_a_response_is_trimmed() {
    let parts = response(
        200,
        &[("x", " \ta b \t"), ("y", "  "), ("set-cookie", "a=1 ")],
    );
    let mut out = Vec::new();
    write_response(&parts, false, &RequestKind::Ordinary, &mut out).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&out),
        "HTTP/1.1 200 OK\r\nx: a b\r\ny:\r\nset-cookie: a=1\r\ncontent-length: 0\r\n\r\n"
    );
    let mut trailers = HeaderMap::new();
    trailers.insert("x", HeaderValue::from_static(" a"));
    let last_chunk = |padding| {
        let mut out = Vec::new();
        write_last_chunk(Some(&trailers), padding, &mut out).map(|()| out)
    };
    assert_eq!(
        last_chunk(Padding::Trimmed),
        Ok(b"0\r\nx: a\r\n\r\n".to_vec())
    );
    assert_eq!(last_chunk(Padding::Refused), Err(MessageError::ValuePadded));
}

#[test]
fn text_becomes_requests() {
    let read = |text: &str| read_request(&Bytes::from(text.to_owned()), Scheme::Https, true);
    let (request, kind, body) = read(
        "POST /a?b HTTP/1.1\r\nHost: o:81\r\nX-A: B\r\nConnection: TE, x-hop\r\nX-Hop: 1\r\nTE: trailers\r\nKeep-Alive: 1\r\nTransfer-Encoding: chunked\r\nVia: 1.1 p\r\n\r\n",
    )
    .unwrap();
    assert_eq!(request.uri(), "https://o:81/a?b");
    assert_eq!(request.method(), "POST");
    assert_eq!(
        (kind, body),
        (
            RequestKind::Ordinary,
            OutgoingBody::Framed(BodyFraming::Chunked)
        )
    );
    let names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x-a", "te", "via"]);

    let (request, kind, body) =
        read("HEAD / HTTP/1.1\r\nHost: o\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n").unwrap();
    assert_eq!(
        (kind, body),
        (RequestKind::Head, OutgoingBody::Framed(BodyFraming::Empty))
    );
    assert!(request.headers().is_empty());

    let (request, _, body) =
        read("PUT / HTTP/1.1\r\nHost: o\r\nContent-Length: 3\r\n\r\n").unwrap();
    assert_eq!(body, OutgoingBody::Framed(BodyFraming::Length(3)));
    assert_eq!(request.headers()["content-length"], "3");

    let (request, ..) = read("OPTIONS * HTTP/1.1\r\nHost: o\r\n\r\n").unwrap();
    assert_eq!(request.uri().path(), "*");

    let (request, ..) = read("GET /<a>|\"{ü}?`^ HTTP/1.1\r\nHost: o\r\n\r\n").unwrap();
    let path = request.uri().path_and_query().unwrap().as_str();
    assert_eq!(path, "/%3Ca%3E%7C%22%7Bü%7D?%60%5E");

    for text in [
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nmore",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn a_websocket_is_requested_if_the_upstream_supports_it() {
    let text = Bytes::from_static(
        b"GET /c HTTP/1.1\r\nHost: o\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    let (request, kind, body) = read_request(&text, Scheme::Https, true).unwrap();
    assert_eq!(request.method(), "CONNECT");
    assert_eq!(
        kind,
        RequestKind::WebSocket(*b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(body, OutgoingBody::Tunnel);
    let names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["sec-websocket-version"]);

    let (request, kind, _) = read_request(&text, Scheme::Https, false).unwrap();
    assert_eq!(
        (request.method().as_str(), kind),
        ("GET", RequestKind::Ordinary)
    );
    assert!(!request.headers().contains_key("upgrade"));
}

#[test]
fn text_becomes_responses() {
    use BodyFraming::*;
    for (text, kind, status, body, fields) in [
        (
            "HTTP/1.1 200 Whatever\r\nContent-Length: 5\r\nConnection: close\r\nX: y\r\n\r\n",
            RequestKind::Ordinary,
            200,
            OutgoingBody::Framed(Length(5)),
            &["content-length", "x"][..],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            RequestKind::Ordinary,
            200,
            OutgoingBody::Framed(Chunked),
            &[],
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
            RequestKind::Ordinary,
            200,
            OutgoingBody::Framed(UntilClose),
            &[],
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            RequestKind::Head,
            200,
            OutgoingBody::Framed(Empty),
            &["content-length"],
        ),
        (
            "HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n",
            RequestKind::Tunnel,
            200,
            OutgoingBody::Tunnel,
            &[],
        ),
        (
            "HTTP/1.1 502 x\r\nContent-Length: 5\r\n\r\n",
            RequestKind::Tunnel,
            502,
            OutgoingBody::Framed(Length(5)),
            &["content-length"],
        ),
        (
            "HTTP/1.1 204 x\r\n\r\n",
            RequestKind::Ordinary,
            204,
            OutgoingBody::Framed(Empty),
            &[],
        ),
        (
            "HTTP/1.1 304 x\r\n\r\n",
            RequestKind::Ordinary,
            304,
            OutgoingBody::Framed(Empty),
            &[],
        ),
        (
            "HTTP/1.1 103 x\r\nA: b\r\n\r\n",
            RequestKind::Ordinary,
            103,
            OutgoingBody::Framed(Empty),
            &["a"],
        ),
    ] {
        let (response, found) = read_response(&Bytes::from(text), &kind).unwrap();
        assert_eq!(
            (response.status().as_u16(), found),
            (status, body),
            "{text}"
        );
        let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, fields, "{text}");
    }
    let unasked = Bytes::from_static(b"HTTP/1.1 101 x\r\n\r\n");
    assert!(read_response(&unasked, &RequestKind::Ordinary).is_err());
}

/// A small generator (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// Anything that a field value of HTTP/2 can be.
    fn value(&mut self) -> HeaderValue {
        let len = self.below(12);
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                *self.pick(&[
                    &b' ', &b'\t', &b',', &b':', &b';', &b'a', &b'0', &b'"', &0x80, &0xff,
                ])
            })
            .collect();
        HeaderValue::from_bytes(&bytes).unwrap()
    }
}

#[test]
fn the_text_of_a_request_means_the_same_as_the_stream() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let limits = HeadLimits::default();
    let (mut good, mut refused) = (0, 0);
    for _ in 0..40_000 {
        let method = random.pick(&["GET", "POST", "OPTIONS", "M-SEARCH", "get"]);
        let authority = random.pick(&["a.example", "A.example:81", "[::1]", "1.2.3.4:80"]);
        let path = random.pick(&[
            "/",
            "/a?b=c",
            "/%0d%0aX:%20y",
            "//",
            "/?a b",
            "/a:b@c",
            "/\u{fc}",
        ]);
        let path = path.replace(' ', "+");
        let scheme = random.pick(&["http", "https"]);
        let has_content = random.below(2) == 0;
        let mut headers = HeaderMap::new();
        for _ in 0..random.below(6) {
            let name = random.pick(&[
                "x", "y-z", "cookie", "accept", "expect", "via", "host2", "trailer",
            ]);
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                random.value(),
            );
        }
        let mut asking = request(method, &format!("{scheme}://{authority}{path}"), &[]);
        *asking.headers_mut() = headers.clone();
        let targets = [ABSOLUTE, RequestTargets::Origin][random.below(2)];
        let mut text = Vec::new();
        let result = write_request(
            &asking.into_parts().0,
            None,
            has_content,
            targets,
            &mut text,
        );
        let is_padded = headers.values().any(|value| {
            let bytes = value.as_bytes();
            bytes.trim_ascii() != bytes
        });
        assert_eq!(result.is_err(), is_padded, "{}", text.escape_ascii());
        if is_padded {
            refused += 1;
            continue;
        }
        good += 1;
        let shown = text.escape_ascii().to_string();
        let bounds = HeadScanner::default().scan(&text, HeadKind::Request, &limits);
        let bounds = bounds.expect(&shown).expect(&shown);
        assert_eq!((bounds.start, bounds.end), (0, text.len()), "{shown}");
        let head = RequestHead::parse(text, 0, Vec::new(), &limits)
            .unwrap_or_else(|refused| panic!("{}: {shown}", refused.error));
        assert_eq!(head.method(), method, "{shown}");
        assert_eq!(head.path(), path.as_bytes(), "{shown}");
        let host = authority.to_ascii_lowercase();
        assert!(
            host.trim_start_matches('[').starts_with(head.host()),
            "{shown}"
        );
        let framing = if has_content {
            BodyFraming::Chunked
        } else {
            BodyFraming::Empty
        };
        assert_eq!(request_framing(&head), Ok(framing), "{shown}");
        for (name, value) in &headers {
            let name = name.as_str();
            let all: Vec<_> = head.fields().named(name).collect();
            let sent: Vec<_> = headers
                .get_all(name)
                .iter()
                .map(HeaderValue::as_bytes)
                .collect();
            match name {
                "cookie" => {
                    let crumbs: Vec<_> =
                        sent.into_iter().filter(|crumb| !crumb.is_empty()).collect();
                    assert_eq!(all, [crumbs.join(&b"; "[..])], "{shown}");
                }
                _ => assert_eq!(all, sent, "{shown}: {value:?}"),
            }
        }
        let own = 1 + usize::from(has_content);
        let crumbs = headers.get_all("cookie").iter().count();
        assert_eq!(
            head.fields().len(),
            headers.len() - crumbs.saturating_sub(1) + own,
            "{shown}"
        );
    }
    assert!(good > 1_000 && refused > 1_000, "{good} {refused}");
}
