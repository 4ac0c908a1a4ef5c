//! HTTP/2 on both sides: peers that break the protocol, peers that exceed limits, and what must stay bounded.
//!
//! Clients speak HTTP/2 over TLS to the proxy itself, unless a test says otherwise.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use h2::Reason;
use rustix::process::Signal;

use crate::support::tls::{
    Answer, Ask, Frame, Gate, Offer, Opcode, Pki, RawHttp2, TlsOrigin, Version, Way, literal,
};
use crate::support::{OK, Origin, Proxy, ProxyCommand, pattern};

/// `:status: 200` and `400` of the static table.
const STATUS_200: u8 = 0x88;
const STATUS_400: u8 = 0x8c;

const ENHANCE_YOUR_CALM: u32 = 11;
const REFUSED_STREAM: u32 = 7;

fn listening(pki: &Pki) -> ProxyCommand {
    pki.relaying().args(pki.listener())
}

fn raw(pki: &Pki, proxy: &Proxy) -> RawHttp2 {
    pki.client(proxy).over(Way::Http2).pipe().raw_http2()
}

/// A GET for `authority`, without content.
fn get(stream: u32, authority: &str) -> Frame {
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", authority),
        (":path", "/"),
    ];
    head(stream, &fields)
}

fn head(stream: u32, fields: &[(&str, &str)]) -> Frame {
    let flags = Frame::END_HEADERS | Frame::END_STREAM;
    Frame::new(Frame::HEADERS, flags, stream, literal(fields))
}

/// Asserts that `client` is still served, on `stream`.
fn assert_is_served(client: &mut RawHttp2, stream: u32, origin: &Origin) {
    client.send(&[get(stream, &origin.authority())]);
    let answer = client.wait_for(|frame| frame.kind == Frame::HEADERS && frame.stream == stream);
    let answer = answer.expect("the connection goes on");
    assert_eq!(answer.payload.first(), Some(&STATUS_200));
}

/// Asserts that a new client is served.
fn assert_serves(pki: &Pki, proxy: &Proxy, origin: &Origin) {
    let mut session = pki.client(proxy).over(Way::Http2).session();
    let received = session.ask(Ask::get(&origin.authority(), "/"));
    assert_eq!(received.told(), (200, "origin-ok".into()));
}

#[test]
fn frames_that_break_the_connections_rules_end_it_with_a_reason() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let authority = origin.authority();
    let half = Frame::new(
        Frame::HEADERS,
        Frame::END_STREAM,
        1,
        literal(&[(":method", "GET")]),
    );
    let wrong: [(&str, Vec<Frame>); 18] = [
        (
            "DATA on no stream",
            vec![Frame::new(Frame::DATA, 0, 0, [1])],
        ),
        ("HEADERS on no stream", vec![get(0, &authority)]),
        ("HEADERS on a server's stream", vec![get(2, &authority)]),
        (
            "RST_STREAM of an idle stream",
            vec![Frame::new(Frame::RST_STREAM, 0, 1, [0; 4])],
        ),
        (
            "DATA on an idle stream",
            vec![Frame::new(Frame::DATA, 0, 5, [1])],
        ),
        (
            "RST_STREAM too short",
            vec![
                get(1, &authority),
                Frame::new(Frame::RST_STREAM, 0, 1, [0; 3]),
            ],
        ),
        (
            "SETTINGS too short",
            vec![Frame::new(Frame::SETTINGS, 0, 0, [0; 5])],
        ),
        (
            "SETTINGS of a stream",
            vec![Frame::new(Frame::SETTINGS, 0, 1, [])],
        ),
        (
            "an acknowledgement with content",
            vec![Frame::new(Frame::SETTINGS, Frame::ACK, 0, [0; 6])],
        ),
        (
            "a window beyond the limit",
            vec![Frame::new(
                Frame::SETTINGS,
                0,
                0,
                [0, 4, 0xff, 0xff, 0xff, 0xff],
            )],
        ),
        (
            "frames of a size that is not allowed",
            vec![Frame::new(Frame::SETTINGS, 0, 0, [0, 5, 0, 0, 0, 1])],
        ),
        (
            "PING too short",
            vec![Frame::new(Frame::PING, 0, 0, [0; 7])],
        ),
        (
            "PING of a stream",
            vec![Frame::new(Frame::PING, 0, 1, [0; 8])],
        ),
        (
            "no more window",
            vec![Frame::new(Frame::WINDOW_UPDATE, 0, 0, [0; 4])],
        ),
        (
            "too much window",
            vec![Frame::new(
                Frame::WINDOW_UPDATE,
                0,
                0,
                [0x7f, 0xff, 0xff, 0xff],
            )],
        ),
        (
            "CONTINUATION of nothing",
            vec![Frame::new(Frame::CONTINUATION, Frame::END_HEADERS, 1, [])],
        ),
        (
            "something within a head",
            vec![half.clone(), Frame::new(Frame::PING, 0, 0, [0; 8])],
        ),
        (
            "a client's push",
            vec![
                get(1, &authority),
                Frame::new(Frame::PUSH_PROMISE, Frame::END_HEADERS, 1, [0, 0, 0, 2]),
            ],
        ),
    ];
    for (name, frames) in wrong {
        eprintln!("{name}");
        let mut client = raw(&pki, &proxy);
        client.send(&frames);
        let code = client.wait_for_end();
        assert!(code.is_some_and(|code| code != 0), "{name}: {code:?}");
    }
    for (name, section) in [
        ("index 0", &[0x80][..]),
        ("an index beyond the table", &[0xff, 0xff, 0x7f]),
        ("a string beyond the frame", &[0x00, 0x7f, 0xff, 0x7f]),
        ("a table beyond the limit", &[0x3f, 0xff, 0xff, 0x7f]),
    ] {
        eprintln!("{name}");
        let mut client = raw(&pki, &proxy);
        let flags = Frame::END_HEADERS | Frame::END_STREAM;
        client.send(&[Frame::new(Frame::HEADERS, flags, 1, section)]);
        let code = client.wait_for_end();
        assert!(code.is_some_and(|code| code != 0), "{name}: {code:?}");
    }
    assert_serves(&pki, &proxy, &origin);
}

#[test]
fn a_frame_that_is_too_long_ends_the_connection() {
    let pki = Pki::new();
    let proxy = listening(&pki).start();
    let mut client = raw(&pki, &proxy);
    client.send(&[Frame::new(0xbe, 0, 0, vec![0; 20_000])]);
    let code = client.wait_for_end();
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
}

#[test]
fn what_is_no_preface_ends_the_connection() {
    let pki = Pki::new();
    let proxy = listening(&pki).start();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        &[0; 64],
    ] {
        let mut pipe = pki.client(&proxy).over(Way::Http2).pipe();
        pipe.send(bytes);
        pipe.read_to_end();
    }
}

#[test]
fn frames_of_unknown_kinds_are_ignored() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let mut client = raw(&pki, &proxy);
    client.send(&[
        Frame::new(0xbe, 0xff, 0, [1, 2, 3]),
        Frame::new(0xbf, 0, 7, []),
    ]);
    assert_is_served(&mut client, 1, &origin);
}

#[test]
fn requests_that_are_malformed_reach_no_origin() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let authority = origin.authority();
    let authority = authority.as_str();
    let [method, scheme, host, path] = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", authority),
        (":path", "/"),
    ];
    let smuggled = format!("{authority}\r\nX-Smuggled: 1");
    let userinfo = format!("user@{authority}");
    let wrong: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("no method", vec![scheme, host, path]),
        ("no scheme", vec![method, host, path]),
        ("no path", vec![method, scheme, host]),
        ("an empty path", vec![method, scheme, host, (":path", "")]),
        (
            "a path without a slash",
            vec![method, scheme, host, (":path", "x")],
        ),
        ("no authority", vec![method, scheme, path]),
        ("two methods", vec![method, method, scheme, host, path]),
        ("two paths", vec![method, scheme, host, path, path]),
        (
            "a pseudo-field of responses",
            vec![method, scheme, host, path, (":status", "200")],
        ),
        (
            "an unknown pseudo-field",
            vec![method, scheme, host, path, (":other", "x")],
        ),
        (
            "a pseudo-field behind a field",
            vec![method, scheme, host, ("x", "y"), path],
        ),
        (
            "upper case",
            vec![method, scheme, host, path, ("X-Upper", "y")],
        ),
        (
            "a space in a name",
            vec![method, scheme, host, path, ("x y", "z")],
        ),
        (
            "a colon in a name",
            vec![method, scheme, host, path, ("x:y", "z")],
        ),
        (
            "a line end in a value",
            vec![method, scheme, host, path, ("x", "y\r\nz: 1")],
        ),
        (
            "a NUL in a value",
            vec![method, scheme, host, path, ("x", "y\0z")],
        ),
        (
            "a space in the path",
            vec![method, scheme, host, (":path", "/ HTTP/1.1")],
        ),
        (
            "a line end in the path",
            vec![method, scheme, host, (":path", "/\r\nx: y")],
        ),
        (
            "a line end in the authority",
            vec![method, scheme, (":authority", &smuggled), path],
        ),
        (
            "a space in the method",
            vec![(":method", "GET /x"), scheme, host, path],
        ),
        (
            "userinfo",
            vec![method, scheme, (":authority", &userinfo), path],
        ),
        (
            "Connection",
            vec![method, scheme, host, path, ("connection", "keep-alive")],
        ),
        (
            "Transfer-Encoding",
            vec![method, scheme, host, path, ("transfer-encoding", "chunked")],
        ),
        (
            "Upgrade",
            vec![method, scheme, host, path, ("upgrade", "websocket")],
        ),
        (
            "Keep-Alive",
            vec![method, scheme, host, path, ("keep-alive", "1")],
        ),
        (
            "TE that is not trailers",
            vec![method, scheme, host, path, ("te", "gzip")],
        ),
        (
            "another Host",
            vec![method, scheme, host, path, ("host", "other.example")],
        ),
        (
            "a length without content",
            vec![method, scheme, host, path, ("content-length", "5")],
        ),
        (
            "two lengths",
            vec![
                method,
                scheme,
                host,
                path,
                ("content-length", "0"),
                ("content-length", "1"),
            ],
        ),
        (
            "a length that is none",
            vec![method, scheme, host, path, ("content-length", "+0")],
        ),
        (
            "CONNECT with a path",
            vec![(":method", "CONNECT"), host, path],
        ),
    ];
    for (name, fields) in wrong {
        eprintln!("{name}");
        let mut client = raw(&pki, &proxy);
        client.send(&[head(1, &fields)]);
        let refusal = client.wait_for(|frame| {
            frame.stream == 1 && matches!(frame.kind, Frame::RST_STREAM | Frame::HEADERS)
        });
        assert_eq!(origin.connections().len(), 0, "{name}");
        // An invalid field may also end the connection: RFC 9113 §5.4.1 leaves the choice.
        let Some(refusal) = refusal else {
            continue;
        };
        if refusal.kind == Frame::HEADERS {
            assert_ne!(refusal.payload.first(), Some(&STATUS_200), "{name}");
        }
        client.send(&[Frame::new(Frame::PING, 0, 0, [7; 8])]);
        let pong = client.wait_for(|frame| frame.kind == Frame::PING && frame.flags == Frame::ACK);
        assert!(pong.is_some(), "{name}: the connection ended");
    }
    origin.assert_untouched();
    let mut client = raw(&pki, &proxy);
    client.send(&[head(1, &[scheme, host, path])]);
    assert_is_served(&mut client, 3, &origin);
}

#[test]
fn content_that_differs_from_its_length_is_no_request() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let authority = origin.authority();
    for (stated, sent) in [("5", 3), ("3", 5)] {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", &authority),
            (":path", "/"),
            ("content-length", stated),
        ];
        let mut client = raw(&pki, &proxy);
        client.send(&[
            Frame::new(Frame::HEADERS, Frame::END_HEADERS, 1, literal(&fields)),
            Frame::new(Frame::DATA, Frame::END_STREAM, 1, vec![b'x'; sent]),
        ]);
        let refusal = client.wait_for(|frame| {
            frame.stream == 1 && matches!(frame.kind, Frame::RST_STREAM | Frame::HEADERS)
        });
        let refusal = refusal.expect("the connection goes on");
        assert_ne!(
            refusal.payload.first(),
            Some(&STATUS_200),
            "{stated}, {sent}"
        );
        assert_is_served(&mut client, 3, &origin);
    }
    // The head of a malformed request may reach the origin, but never a complete request.
    assert_eq!(
        origin
            .requests()
            .iter()
            .filter(|each| each.method() == "POST")
            .count(),
        0
    );
}

#[test]
fn a_request_without_content_says_so_to_an_http1_origin_if_its_method_expects_some() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let mut session = pki.client(&proxy).over(Way::Http2).session();
    for (method, length) in [("POST", Some("0")), ("PUT", Some("0")), ("GET", None)] {
        let received = session.ask(Ask::new(method, &origin.authority(), "/"));
        assert_eq!(received.told(), (200, "origin-ok".into()));
        let request = origin.requests().pop().expect("a request");
        assert_eq!(
            request.field("content-length").as_deref(),
            length,
            "{method}"
        );
    }
}

#[test]
fn a_host_that_differs_from_the_authority_by_the_default_port_is_the_same() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let authority = origin.authority();
    let ask = |host: &str| {
        let mut client = raw(&pki, &proxy);
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", &authority),
            (":path", "/"),
            ("host", host),
        ];
        client.send(&[head(1, &fields)]);
        client.wait_for(|frame| frame.stream == 1)
    };
    let answer = ask(&authority.to_uppercase()).expect("an answer");
    assert_eq!(answer.payload.first(), Some(&STATUS_200));
    let refusal = ask("127.0.0.1:1").expect("a refusal");
    assert_eq!(refusal.kind, Frame::RST_STREAM);
}

#[test]
fn trailers_pass_up_to_the_limit_for_heads() {
    let pki = Pki::new();
    let details = "d".repeat(20_000);
    let answer =
        Answer::parts(vec![b"hello".to_vec()]).trailer("grpc-status-details-bin", &details);
    let origin = pki.origin().answering(answer);
    let proxy = pki.intercepting().start();
    for offer in [Offer::Http2, Offer::Http1] {
        let client = pki.client(&proxy).offering(offer);
        let mut session = client.https(&origin.authority());
        let ask = Ask::post_parts(&origin.authority(), "/", vec![b"x".to_vec()]);
        let received = session.ask(ask.field("te", "trailers").trailer("x-sum", &details));
        let sent = origin.requests().pop().expect("a request").trailers;
        for (trailers, name) in [
            (received.trailers, "grpc-status-details-bin"),
            (sent, "x-sum"),
        ] {
            let lens: Vec<_> = trailers
                .iter()
                .map(|(name, value)| (&name[..], value.len()))
                .collect();
            assert_eq!(lens, [(name, details.len())]);
        }
    }
}

/// The fields of a GET with this path.
fn asking_for<'a>(authority: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", authority),
        (":path", path),
    ]
}

#[test]
fn a_path_with_a_fragment_or_a_space_is_refused_with_a_status_and_a_line() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let authority = origin.authority();
    let mut client = raw(&pki, &proxy);
    let paths = ["/a#b?token=1", "/#", "/a b", "/a\r\nX: y", "/a\u{7f}"];
    for (stream, path) in (1..).step_by(2).zip(paths) {
        client.send(&[head(stream, &asking_for(&authority, path))]);
        let answer = client.wait_for(|frame| frame.stream == stream);
        let answer = answer.expect("the connection goes on");
        assert_eq!(
            (answer.kind, answer.payload.first()),
            (Frame::HEADERS, Some(&STATUS_400)),
            "{path:?}"
        );
    }
    proxy.wait_for_line("/a#b?token=1");
    origin.assert_untouched();
    assert_is_served(&mut client, 99, &origin);
}

#[test]
fn paths_are_the_same_to_an_origin_whatever_version_they_come_by() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let plain = Proxy::start();
    let authority = origin.authority();
    let mut client = raw(&pki, &proxy);
    let paths = [
        "/a<b>",
        "/?q=<b>",
        "/?q=\"x\"",
        "/a\"b",
        "/a`b",
        "/?q=`",
        "/a|b{c}",
        "/a\\b^c",
        "/%3C%7c/%2f",
        "/\u{fc}",
        "/a<b>",
        "*",
    ];
    for (stream, path) in (1..).step_by(2).zip(paths) {
        client.send(&[head(stream, &asking_for(&authority, path))]);
        let answer = client
            .wait_for(|frame| frame.stream == stream)
            .expect("an answer");
        let one = plain.ask(crate::support::request("GET", &origin, path, ""));
        if path.starts_with('/') {
            assert_eq!(
                (answer.payload.first(), one.status()),
                (Some(&STATUS_200), 200),
                "{path}"
            );
            let mut requests = origin.requests();
            requests.retain(|sent| sent.target() == path);
            assert!(
                !requests.is_empty() && requests.len().is_multiple_of(2),
                "{path}: {}",
                requests.len()
            );
        } else {
            assert_ne!(answer.payload.first(), Some(&STATUS_200), "{path}");
        }
    }
}

#[test]
fn pseudo_fields_in_trailers_make_a_request_malformed() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let authority = origin.authority();
    let mut client = raw(&pki, &proxy);
    let mut fields = asking_for(&authority, "/").to_vec();
    fields[0] = (":method", "POST");
    client.send(&[
        section(1, 0, &fields),
        Frame::new(Frame::DATA, 0, 1, *b"hello"),
        section(1, Frame::END_STREAM, &[(":path", "/other")]),
    ]);
    let refusal = client.wait_for(|frame| frame.stream == 1 && frame.kind == Frame::RST_STREAM);
    assert_eq!(refusal.map(|refusal| refusal.code()), Some(1));
    assert_is_served(&mut client, 3, &origin);
    let mut requests = origin.requests();
    requests.retain(|request| request.method() == "POST");
    assert_eq!(requests.len(), 0);
}

#[test]
fn malformed_responses_are_refused_with_the_reason_and_harm_no_other() {
    type Fields = &'static [(&'static str, &'static str)];
    const WRONG: [(Fields, &str); 9] = [
        (
            &[(":status", "200"), ("connection", "close")],
            "a connection-specific field",
        ),
        (
            &[(":status", "200"), ("te", "gzip")],
            "TE has a value other than trailers",
        ),
        (
            &[(":status", "200"), ("X-Upper", "1")],
            "an upper-case letter",
        ),
        (
            &[(":status", "200"), ("x y", "1")],
            "a field name contains an invalid character",
        ),
        (&[(":status", "200"), ("x", "a\nb")], "a control character"),
        (
            &[(":status", "200"), (":path", "/")],
            "a request pseudo-header field in a response",
        ),
        (
            &[(":status", "200"), (":other", "1")],
            "an unknown pseudo-header field",
        ),
        (&[("x", "y")], "the response has no :status"),
        (
            &[(":status", "200"), ("content-length", "9")],
            "Content-Length",
        ),
    ];
    let pki = Pki::new();
    let origin = pki.origin().serve_raw(|_, peer| {
        let mut number = 0;
        while let Some(stream) = peer.next_request() {
            let fields = WRONG
                .get(number)
                .map_or(&[(":status", "204")][..], |wrong| wrong.0);
            peer.send(&[section(stream, Frame::END_STREAM, fields)]);
            number += 1;
        }
    });
    let proxy = pki.intercepting().start();
    let client = pki.client(&proxy).offering(Offer::Http1);
    let mut session = client.https(&origin.authority());
    for (_, reason) in WRONG {
        let received = session.ask(Ask::get(&origin.authority(), "/"));
        let status = received.field("proxy-status").unwrap_or_default();
        assert_eq!(received.status, 502, "{reason}");
        assert!(
            status.contains("http_protocol_error") && status.contains(reason),
            "{status}"
        );
    }
    assert_eq!(session.ask(Ask::get(&origin.authority(), "/")).status, 204);
    assert_eq!(origin.connections().len(), 1);
}

#[test]
fn content_that_differs_from_its_length_is_no_response_and_the_log_says_so() {
    let pki = Pki::new();
    let origin = pki.origin().serve_raw(|_, peer| {
        while let Some(stream) = peer.next_request() {
            let fields = [(":status", "200"), ("content-length", "9")];
            peer.send(&[
                section(stream, 0, &fields),
                Frame::new(Frame::DATA, Frame::END_STREAM, stream, *b"hello"),
            ]);
        }
    });
    let proxy = pki.intercepting().start();
    let client = pki.client(&proxy).offering(Offer::Http1);
    let result = client
        .https(&origin.authority())
        .try_ask(Ask::get(&origin.authority(), "/"));
    assert!(!matches!(result, Ok(received) if received.fault.is_none() && received.status == 200));
    proxy.wait_for_line("differs from the length of the content");
}

#[test]
fn streams_past_the_limit_are_refused_and_the_others_go_on() {
    let pki = Pki::new();
    let origin = Origin::silent();
    let other = Origin::answering(OK);
    let proxy = listening(&pki)
        .config("[limits]\nmax_concurrent_streams = 4")
        .start();
    let mut client = raw(&pki, &proxy);
    let settings = client.wait_for(|frame| frame.kind == Frame::SETTINGS && frame.flags == 0);
    let settings = settings.expect("the proxy's settings").payload;
    assert!(
        settings.chunks(6).any(|each| each == [0, 3, 0, 0, 0, 4]),
        "{settings:?}"
    );
    client.send(&[Frame::new(Frame::SETTINGS, Frame::ACK, 0, [])]);
    // All streams but the last are accepted.
    let streams = [1, 3, 5, 7, 9];
    let heads: Vec<_> = streams
        .map(|stream| get(stream, &origin.authority()))
        .into();
    client.send(&heads);
    let refused = client.wait_for(|frame| frame.kind == Frame::RST_STREAM);
    let refused = refused.expect("the connection goes on");
    assert_eq!((refused.stream, refused.code()), (9, REFUSED_STREAM));
    origin.wait_until("four requests", |connections| {
        connections
            .iter()
            .filter(|each| each.ends_with(b"\r\n\r\n"))
            .count()
            == 4
    });
    client.send(&[Frame::new(Frame::RST_STREAM, 0, 1, 8_u32.to_be_bytes())]);
    origin.wait_for_open(3);
    assert_is_served(&mut client, 11, &other);
}

#[test]
fn ten_thousand_rapid_resets_end_the_connection_with_memory_as_it_was() {
    let pki = Pki::new();
    let origin = Origin::silent();
    let other = Origin::answering(OK);
    let proxy = listening(&pki).start();
    assert_serves(&pki, &proxy, &other);
    let before = proxy.resident_kib();
    let mut client = raw(&pki, &proxy);
    let mut was_ended = false;
    for batch in 0..100 {
        let frames: Vec<_> = (0..100)
            .map(|number| 1 + 2 * (100 * batch + number))
            .flat_map(|stream| {
                let reset = Frame::new(Frame::RST_STREAM, 0, stream, 8_u32.to_be_bytes());
                [get(stream, &origin.authority()), reset]
            })
            .collect();
        was_ended |= !client.send(&frames);
        if was_ended {
            break;
        }
    }
    let code = client.wait_for_end();
    assert!(was_ended || code == Some(ENHANCE_YOUR_CALM), "{code:?}");
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
    origin.wait_for_end();
    assert!(
        origin.connections().len() < 2_000,
        "{}",
        origin.connections().len()
    );
    assert_serves(&pki, &proxy, &other);
}

#[test]
fn resets_by_a_client_that_is_served_now_and_then_are_no_attack() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let silent = Origin::silent();
    let proxy = listening(&pki).start();
    let mut session = pki.client(&proxy).over(Way::Http2).session();
    for _ in 0..50 {
        session
            .open(&Ask::get(&silent.authority(), "/"))
            .reset(Reason::CANCEL);
        let received = session.ask(Ask::get(&origin.authority(), "/"));
        assert_eq!(received.told(), (200, "origin-ok".into()));
    }
}

#[test]
fn a_head_without_end_is_cut_off_with_memory_as_it_was() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    assert_serves(&pki, &proxy, &origin);
    let before = proxy.resident_kib();
    let mut client = raw(&pki, &proxy);
    let start = literal(&[(":method", "GET")]);
    client.send(&[Frame::new(Frame::HEADERS, Frame::END_STREAM, 1, start)]);
    let field = literal(&[("x-long", &"y".repeat(8000))]).repeat(2);
    let part = Frame::new(Frame::CONTINUATION, 0, 1, field);
    let mut sent = 0;
    while sent < 64 << 20 && client.send(std::slice::from_ref(&part)) {
        sent += part.payload.len();
    }
    assert!(sent < 64 << 20, "everything was taken");
    client.wait_for_end();
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
    assert_serves(&pki, &proxy, &origin);
}

#[test]
fn empty_continuations_without_end_are_cut_off() {
    let pki = Pki::new();
    let proxy = listening(&pki).start();
    let mut client = raw(&pki, &proxy);
    client.send(&[Frame::new(
        Frame::HEADERS,
        0,
        1,
        literal(&[(":method", "GET")]),
    )]);
    let empty: Vec<_> = vec![Frame::new(Frame::CONTINUATION, 0, 1, []); 1000];
    let mut batches = 0;
    while batches < 1000 && client.send(&empty) {
        batches += 1;
    }
    assert!(batches < 1000, "everything was taken");
    client.wait_for_end();
}

#[test]
fn a_head_that_is_too_long_is_431_or_a_reset_and_reaches_no_origin() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).start();
    let mut session = pki.client(&proxy).over(Way::Http2).session();
    let mut ask = Ask::get(&origin.authority(), "/");
    for number in 0..20 {
        ask = ask.field(&format!("x-long-{number}"), &"y".repeat(8000));
    }
    match session.try_ask(ask) {
        Ok(received) => assert_eq!(received.status, 431),
        Err(fault) => eprintln!("{fault}"),
    }
    origin.assert_untouched();
    assert_serves(&pki, &proxy, &origin);
}

#[test]
fn a_client_that_does_not_read_stalls_the_origin_and_costs_no_memory() {
    const LEN: usize = 24 << 20;
    let pki = Pki::new();
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n"));
        peer.send(pattern(LEN));
        peer.park();
    });
    let other = Origin::answering(OK);
    let proxy = listening(&pki).start();
    assert_serves(&pki, &proxy, &other);
    let before = proxy.resident_kib();
    let session = pki.client(&proxy).over(Way::Http2).session();
    let mut stream = session.open(&Ask::get(&origin.authority(), "/"));
    stream.finish();
    assert_eq!(stream.head().expect("a head").status, 200);
    // Gives the proxy time to buffer the response if it applies no back-pressure.
    assert_serves(&pki, &proxy, &other);
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB more");
    assert!(stream.read_exact(LEN) == pattern(LEN));
}

#[test]
fn an_origin_that_does_not_read_stalls_the_client_and_costs_no_memory() {
    const LEN: usize = 64 << 20;
    let pki = Pki::new();
    let gate = Arc::new(AtomicUsize::new(0));
    let is_done = gate.clone();
    let origin = Origin::serve(move |peer| {
        peer.head();
        while is_done.load(Ordering::SeqCst) == 0 {
            peer.pause(10);
        }
    });
    let proxy = listening(&pki).start();
    let before = proxy.resident_kib();
    let session = pki.client(&proxy).over(Way::Http2).session();
    let mut stream = session.open(&Ask::new("POST", &origin.authority(), "/"));
    let sent = stream.send_until_full(LEN);
    let grown = proxy.resident_kib().saturating_sub(before);
    gate.store(1, Ordering::SeqCst);
    // The bound on `sent` includes the kernel's socket buffers.
    assert!(sent < 16 << 20, "{sent} bytes were taken");
    assert!(grown < 8 << 10, "{grown} KiB more");
}

#[test]
fn a_stalled_stream_does_not_hold_up_a_tunnel_of_another_connection() {
    let pki = Pki::new();
    let bulk = Origin::serve(|peer| {
        peer.send(pattern(8 << 20));
        peer.park();
    });
    let echo = Origin::echoing();
    let proxy = listening(&pki).start();
    let client = pki.client(&proxy).over(Way::Http2);
    let _stalled = client.tunnel(&bulk.authority());
    let mut tunnel = client.tunnel(&echo.authority());
    for number in 0..50 {
        let text = format!("message {number:02}");
        tunnel.send(&text);
        assert_eq!(tunnel.read_exact(text.len()), text.as_bytes());
    }
}

#[test]
fn both_directions_of_a_stream_flow_at_the_same_time() {
    // As in gRPC: one reply per message, and the status in the trailer section.
    let pki = Pki::new();
    let origin = pki
        .origin()
        .offering(Offer::Http2)
        .answering(Answer::echo());
    let proxy = pki.intercepting().start();
    let authority = origin.authority();
    let session = pki.client(&proxy).https(&authority);
    assert_eq!(session.version(), Version::Http2);
    let ask = Ask::new("POST", &authority, "/package.Service/Method")
        .field("content-type", "application/grpc")
        .field("te", "trailers");
    let mut stream = session.open(&ask);
    let mut has_head = false;
    for number in 0..20 {
        let message = format!("message {number:02}");
        stream.send(message.as_bytes());
        if !has_head {
            assert_eq!(stream.head().expect("a head").status, 200);
            has_head = true;
        }
        assert_eq!(stream.read_exact(message.len()), message.as_bytes());
    }
    stream.finish_with("grpc-status", "0");
    assert_eq!(stream.read(), Ok(Vec::new()));
    assert_eq!(
        stream.trailers(),
        [("grpc-status".to_owned(), "0".to_owned())]
    );
    let seen = origin.only_request();
    assert_eq!(seen.field("te").as_deref(), Some("trailers"));
    assert_eq!(
        seen.field("content-type").as_deref(),
        Some("application/grpc")
    );
}

#[test]
fn trailers_may_follow_a_response_without_content() {
    let pki = Pki::new();
    let answer = Answer::parts(Vec::new()).trailer("grpc-status", "5");
    let origin = pki.origin().offering(Offer::Http2).answering(answer);
    let proxy = pki.intercepting().start();
    let received = pki.client(&proxy).get(&origin.authority(), "/");
    assert_eq!(received.told(), (200, String::new()));
    assert_eq!(
        received.trailers,
        [("grpc-status".to_owned(), "5".to_owned())]
    );
}

#[test]
fn a_reset_by_the_client_is_passed_on() {
    let pki = Pki::new();
    let origin = Origin::silent();
    let proxy = listening(&pki).start();
    let session = pki.client(&proxy).over(Way::Http2).session();
    let stream = session.open(&Ask::get(&origin.authority(), "/"));
    origin.wait_for(b"\r\n\r\n");
    stream.reset(Reason::CANCEL);
    origin.wait_for_end();
}

#[test]
fn streams_under_way_finish_when_the_proxy_drains() {
    let pki = Pki::new();
    let gate = Gate::closed();
    let held = Answer::ok("late but whole").behind(&gate);
    let origin = pki.origin().serve_clear(move |_| held.clone());
    let proxy = listening(&pki).start();
    let session = pki.client(&proxy).over(Way::Http2).session();
    let pending = session.begin(Ask::get(&origin.authority(), "/"));
    origin.wait_for_requests(1);
    let mut watcher = raw(&pki, &proxy);
    proxy.signal(Signal::TERM);
    let goaway = watcher.wait_for(|frame| frame.kind == Frame::GOAWAY);
    assert_eq!(
        goaway.map(|frame| frame.code()),
        Some(0),
        "drained in order"
    );
    gate.open();
    let received = pending.finish().expect("an answer");
    assert_eq!(received.told(), (200, "late but whole".into()));
    let reason = session.wait_for_end();
    assert!(
        matches!(reason, None | Some(Reason::NO_ERROR)),
        "{reason:?}"
    );
    assert_eq!(proxy.wait().code, Some(0));
}

#[test]
fn an_idle_connection_is_ended_in_order() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = listening(&pki).config("[timeouts]\nidle = 1").start();
    let mut session = pki.client(&proxy).over(Way::Http2).session();
    assert_eq!(session.ask(Ask::get(&origin.authority(), "/")).status, 200);
    let reason = session.wait_for_end();
    assert!(
        matches!(reason, None | Some(Reason::NO_ERROR)),
        "{reason:?}"
    );
}

#[test]
fn fifty_streams_at_once_use_one_connection_to_the_origin() {
    const STREAMS: usize = 50;
    let pki = Pki::new();
    let gate = Gate::closed();
    let (seen, to_open) = (AtomicUsize::new(0), gate.clone());
    let origin = pki.origin().offering(Offer::Http2).serve(move |_| {
        if seen.fetch_add(1, Ordering::SeqCst) + 1 == STREAMS {
            to_open.open();
        }
        Answer::ok("ok").behind(&to_open)
    });
    let proxy = pki.intercepting().start();
    let authority = origin.authority();
    let session = pki.client(&proxy).https(&authority);
    let pending: Vec<_> = (0..STREAMS)
        .map(|number| session.begin(Ask::get(&authority, &format!("/{number}"))))
        .collect();
    for pending in pending {
        assert_eq!(
            pending.finish().expect("an answer").told(),
            (200, "ok".into())
        );
    }
    assert!(origin.requests().iter().all(|seen| seen.connection == 0));
    assert_eq!(origin.connections().len(), 1);
}

#[test]
fn an_origin_that_allows_few_streams_gets_no_more_and_everybody_is_served() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .offering(Offer::Http2)
        .with_streams(2)
        .serve(|seen| Answer::ok(seen.path.clone()));
    let proxy = pki.intercepting().start();
    let authority = origin.authority();
    let session = pki.client(&proxy).https(&authority);
    let pending: Vec<_> = (0..30)
        .map(|number| {
            let path = format!("/{number}");
            (session.begin(Ask::get(&authority, &path)), path)
        })
        .collect();
    for (pending, path) in pending {
        assert_eq!(pending.finish().expect("an answer").told(), (200, path));
    }
}

#[test]
fn an_origin_that_resets_a_stream_breaks_that_exchange_alone() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .offering(Offer::Http2)
        .serve(|seen| match seen.path.as_str() {
            "/broken" => Answer::parts(vec![b"some".to_vec()]).broken(),
            _ => Answer::ok("ok"),
        });
    let proxy = pki.intercepting().start();
    let authority = origin.authority();
    let mut session = pki.client(&proxy).https(&authority);
    for _ in 0..3 {
        if let Ok(received) = session.try_ask(Ask::get(&authority, "/broken")) {
            assert!(
                received.fault.is_some() || received.status == 502,
                "{received:?}"
            );
        }
        assert_eq!(
            session.ask(Ask::get(&authority, "/")).told(),
            (200, "ok".into())
        );
    }
    assert_eq!(origin.connections().len(), 1);
}

/// An origin that negotiates HTTP/2, then requires HTTP/1.1 for every request (RFC 9113 §7).
fn wanting_http1(pki: &Pki, answer: Answer) -> TlsOrigin {
    pki.origin().serve(move |seen| match seen.version {
        Version::Http1 => answer.clone(),
        Version::Http2 => Answer::reset(Reason::HTTP_1_1_REQUIRED),
    })
}

/// The connection and the version of every request.
fn ways(origin: &TlsOrigin) -> Vec<(usize, Version)> {
    let requests = origin.requests();
    let ways = requests.iter().map(|seen| (seen.connection, seen.version));
    ways.collect()
}

#[test]
fn an_origin_that_wants_http1_gets_it_from_then_on() {
    let pki = Pki::new();
    let origin = wanting_http1(&pki, Answer::ok("ok"));
    let proxy = pki.intercepting().start();
    let authority = origin.authority();
    let mut session = pki.client(&proxy).https(&authority);
    for ask in [
        Ask::new("POST", &authority, "/"),
        Ask::get(&authority, "/"),
        Ask::post(&authority, "/", "content"),
    ] {
        assert_eq!(session.ask(ask).told(), (200, "ok".into()));
    }
    let other = pki.client(&proxy).offering(Offer::Both).https(&authority);
    assert_eq!(other.version(), Version::Http1);
    let http1 = (1, Version::Http1);
    assert_eq!(ways(&origin), [(0, Version::Http2), http1, http1, http1]);
}

#[test]
fn content_is_sent_again_by_http1_as_plugins_have_made_it() {
    let pki = Pki::new();
    let origin = wanting_http1(&pki, Answer::echo());
    let authority = origin.authority();
    let post = || Ask::post(&authority, "/", "content");
    let collecting = pki
        .intercepting()
        .plugin("modify_post_data", "ModifyPostData")
        .start();
    let received = pki.client(&collecting).https(&authority).ask(post());
    assert_eq!(received.told(), (200, r#"{"key": "modified"}"#.into()));

    let passing = pki.intercepting().start();
    let mut session = pki.client(&passing).https(&authority);
    assert_eq!(session.ask(post()).told(), (200, "content".into()));
}

/// Refuses requests on its first connection after reading them completely; echoes requests on later connections.
fn refusing_the_first(pki: &Pki) -> TlsOrigin {
    pki.origin().serve(|seen| match seen.connection {
        0 => Answer::reset_behind(Reason::REFUSED_STREAM),
        _ => Answer::echo(),
    })
}

#[test]
fn a_refused_post_is_sent_again_with_the_same_content() {
    let pki = Pki::new();
    for (offer, len) in [
        (Offer::Http2, 5),
        (Offer::Http2, 64 << 10),
        (Offer::Http1, 20_000),
    ] {
        let origin = refusing_the_first(&pki);
        let proxy = pki.intercepting().start();
        let client = pki.client(&proxy).offering(offer);
        let mut session = client.https(&origin.authority());
        let content = pattern(len);
        let parts: Vec<_> = content.chunks(10_000).map(<[u8]>::to_vec).collect();
        let ask = Ask::post_parts(&origin.authority(), "/", parts);
        let received = session.ask(ask.trailer("x-sum", "1"));
        assert_eq!((received.status, received.body == content), (200, true));
        assert_eq!(received.trailers, [("x-sum".to_owned(), "1".to_owned())]);
        let connections: Vec<_> = origin
            .requests()
            .iter()
            .map(|seen| seen.connection)
            .collect();
        assert_eq!(connections, [0, 1]);
        assert!(origin.requests().iter().all(|seen| seen.body == content));
    }
}

#[test]
fn content_that_plugins_see_pass_is_seen_once_though_it_is_sent_twice() {
    let pki = Pki::new();
    let origin = refusing_the_first(&pki);
    let proxy = pki
        .intercepting()
        .plugin("odd", "Pieces")
        .plugin_config("Pieces.way=client")
        .start();
    let mut session = pki.client(&proxy).https(&origin.authority());
    let parts = vec![b"abc".to_vec(), b"def".to_vec()];
    let received = session.ask(Ask::post_parts(&origin.authority(), "/", parts));
    assert_eq!(received.told(), (200, "abcdef".into()));
    assert_eq!(origin.requests().len(), 2);
    proxy.wait_for_line("6 bytes");
}

#[test]
fn an_upstream_that_refuses_every_stream_is_asked_twice() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .answering(Answer::reset_behind(Reason::REFUSED_STREAM));
    let proxy = pki.intercepting().start();
    let mut session = pki.client(&proxy).https(&origin.authority());
    let received = session.ask(Ask::post(&origin.authority(), "/", "content"));
    assert_eq!(received.status, 502);
    let details = received.field("proxy-status").expect("a reason");
    assert!(details.contains("did not process the request"), "{details}");
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn refused_content_that_is_not_kept_is_for_the_client_to_send_again() {
    let pki = Pki::new();
    let origin = refusing_the_first(&pki);
    let proxy = pki.intercepting().start();
    let authority = origin.authority();
    let post = || Ask::post(&authority, "/", pattern((64 << 10) + 1));
    let mut session = pki.client(&proxy).https(&authority);
    let fault = session.try_ask(post()).expect_err("a reset");
    assert!(fault.contains("refused"), "{fault}");
    proxy.wait_for_line("refused, the upstream did not process the request");
    assert_eq!(origin.requests().len(), 1);
    let http1 = pki.client(&proxy).offering(Offer::Http1);
    let received = http1.https(&authority).ask(post());
    assert_eq!(received.status, 502);
}

/// A HEADERS frame with these fields, uncompressed.
fn section(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Frame {
    let flags = flags | Frame::END_HEADERS;
    Frame::new(Frame::HEADERS, flags, stream, literal(fields))
}

#[test]
fn what_goaway_leaves_out_is_sent_again() {
    let pki = Pki::new();
    let origin = pki.origin().serve_raw(|connection, peer| {
        while let Some(stream) = peer.next_request() {
            peer.wait_for(|frame| frame.stream == stream && frame.kind == Frame::DATA);
            if connection == 0 && stream > 1 {
                let last_and_reason = [0, 0, 0, 1, 0, 0, 0, 0];
                peer.send(&[Frame::new(Frame::GOAWAY, 0, 0, last_and_reason)]);
                continue;
            }
            let number = connection.to_string();
            let fields = [(":status", "200"), ("x-connection", &number)];
            peer.send(&[section(stream, Frame::END_STREAM, &fields)]);
        }
    });
    let proxy = pki.intercepting().start();
    let authority = origin.authority();
    let mut session = pki.client(&proxy).https(&authority);
    for connection in ["0", "1", "1"] {
        let received = session.ask(Ask::post(&authority, "/", "content"));
        assert_eq!(received.status, 200);
        assert_eq!(received.field("x-connection").as_deref(), Some(connection));
    }
}

#[test]
fn requests_side_by_side_are_answered_by_an_upstream_that_takes_one_on_each_connection() {
    const COUNT: usize = 8;
    let pki = Pki::new();
    let origin = pki.origin().serve_raw(|connection, peer| {
        let Some(first) = peer.next_request() else {
            return;
        };
        if connection == 0 {
            for _ in 1..COUNT {
                peer.next_request();
            }
        }
        let last_and_reason = [&first.to_be_bytes()[..], &[0; 4]].concat();
        peer.send(&[
            section(first, Frame::END_STREAM, &[(":status", "200")]),
            Frame::new(Frame::GOAWAY, 0, 0, last_and_reason),
        ]);
        while peer.next_request().is_some() {}
    });
    let proxy = pki.intercepting().args(["--num-workers", "1"]).start();
    let authority = origin.authority();
    let session = pki.client(&proxy).https(&authority);
    let asked: Vec<_> = (0..COUNT)
        .map(|_| session.begin(Ask::post(&authority, "/", "content")))
        .collect();
    for pending in asked {
        assert_eq!(pending.finish().map(|received| received.status), Ok(200));
    }
}

#[test]
fn idempotent_requests_are_sent_again_with_content_when_a_kept_connection_turns_out_closed() {
    let content = pattern(40_000);
    for (method, status) in [("PUT", 200), ("QUERY", 200), ("DELETE", 200), ("POST", 502)] {
        let origin = Origin::serve(|peer| {
            while peer.request().is_some() {
                if peer.index() == 0 && peer.received().starts_with(b"GET /first") {
                    peer.send(OK);
                    peer.request();
                    return;
                }
                peer.send(OK);
            }
        });
        let proxy = Proxy::start();
        let mut client = proxy.client();
        assert_eq!(
            client.ask(crate::support::get(&origin, "/first")).status(),
            200
        );
        let fields = format!("Content-Length: {}\r\n", content.len());
        let head = crate::support::request(method, &origin, "/", &fields);
        let answer = client.ask([head.as_bytes(), &content].concat());
        assert_eq!(answer.status(), status, "{method}");
        let bodies: Vec<_> = origin
            .requests()
            .into_iter()
            .skip(1)
            .map(|sent| sent.body)
            .collect();
        let expected = if status == 200 { 2 } else { 1 };
        assert_eq!(bodies.len(), expected, "{method}");
        assert!(bodies.iter().all(|body| *body == content), "{method}");
    }
}

#[test]
fn an_early_answer_that_comes_with_its_reset_reaches_a_client_that_sends_on() {
    let pki = Pki::new();
    let origin = pki.origin().serve_raw(|_, peer| {
        while let Some(stream) = peer.next_request() {
            peer.send(&[
                section(stream, 0, &[(":status", "413"), ("content-length", "7")]),
                Frame::new(Frame::DATA, Frame::END_STREAM, stream, *b"too big"),
                Frame::new(Frame::RST_STREAM, 0, stream, [0; 4]),
            ]);
        }
    });
    let proxy = pki.intercepting().start();
    let session = pki.client(&proxy).https(&origin.authority());
    let mut stream = session.open(&Ask::new("POST", &origin.authority(), "/"));
    stream.send(&pattern(100_000));
    assert_eq!(stream.head().expect("a head").status, 413);
    assert_eq!(stream.read_exact(7), b"too big");
    // More than the flow-control windows allow at once, then the end of the stream.
    stream.send(&pattern(2 << 20));
    stream.finish();
}

#[test]
fn a_client_that_stops_short_for_an_early_answer_gets_all_of_it_and_its_request_stays_unfinished() {
    for last in [&b""[..], b"and a bit"] {
        let (stopped, has_stopped) = mpsc::channel();
        let has_stopped = Mutex::new(has_stopped);
        let pki = Pki::new();
        let origin = Origin::serve(move |peer| {
            while let Some(head) = peer.head() {
                if head.method() == "GET" {
                    peer.send(OK);
                    continue;
                }
                peer.wait_for(b"a beginning");
                peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\n\r\n");
                let stopped = has_stopped.lock().expect("the only one").recv();
                stopped.expect("the test goes on");
                peer.send("too big");
                peer.park();
            }
        });
        let proxy = listening(&pki).start();
        let authority = origin.authority();
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", &authority),
            (":path", "/"),
            ("content-length", "1000"),
        ];
        let mut client = raw(&pki, &proxy);
        client.send(&[
            Frame::new(Frame::HEADERS, Frame::END_HEADERS, 1, literal(&fields)),
            Frame::new(Frame::DATA, 0, 1, *b"a beginning"),
        ]);
        let answer = client.wait_for(|frame| frame.kind == Frame::HEADERS);
        let answer = answer.expect("the connection goes on");
        assert_eq!(answer.flags & Frame::END_STREAM, 0);
        client.send(&[
            Frame::new(Frame::DATA, Frame::END_STREAM, 1, last),
            Frame::new(Frame::PING, 0, 0, *b"stopped!"),
        ]);
        let said = client.wait_for(|frame| {
            frame.kind == Frame::RST_STREAM
                || (frame.kind == Frame::PING && frame.flags == Frame::ACK)
        });
        let said = said.expect("the connection goes on");
        assert_eq!((said.kind, said.stream), (Frame::PING, 0));
        stopped.send(()).expect("the origin waits");
        let content =
            client.wait_for(|frame| frame.stream == 1 && frame.kind != Frame::WINDOW_UPDATE);
        let content = content.expect("the connection goes on");
        assert_eq!(
            (content.kind, content.flags, &content.payload[..]),
            (Frame::DATA, Frame::END_STREAM, &b"too big"[..])
        );
        assert_is_served(&mut client, 3, &origin);
        let requests = origin.requests();
        assert!(requests.iter().all(|request| request.method() == "GET"));
    }
}

#[test]
fn a_websocket_that_is_wanted_by_http1_is_asked_for_so() {
    let pki = Pki::new();
    let origin = wanting_http1(&pki, Answer::web_socket());
    let proxy = pki.intercepting().start();
    let authority = origin.authority();
    let session = pki.client(&proxy).https(&authority);
    let mut socket = session
        .web_socket(&authority, "/chat")
        .unwrap_or_else(|answer| panic!("WebSocket handshake failed: {answer:?}"));
    socket.send(Opcode::Text, b"hello");
    assert_eq!(socket.receive(), Some((Opcode::Text, b"hello".to_vec())));
    assert_eq!(ways(&origin), [(0, Version::Http2), (1, Version::Http1)]);
}
