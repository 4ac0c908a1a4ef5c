//! WebSockets inside TLS: opened in HTTP/1.1 or HTTP/2, and carried over either.

use super::Scene;
use crate::support::pattern;
use crate::support::tls::{Answer, Ask, Offer, Opcode, Pki, Version};

#[test]
fn messages_pass_whichever_version_each_side_speaks() {
    for (client, origin) in [
        (Offer::Http1, Offer::Http1),
        (Offer::Http2, Offer::Http2),
        (Offer::Http1, Offer::Http2),
        (Offer::Both, Offer::Http1),
    ] {
        eprintln!("client {client:?}, origin {origin:?}");
        let scene = Scene::of(client, origin, Answer::web_socket());
        let authority = scene.authority();
        let session = scene.client().https(&authority);
        if session.version() == Version::Http2 {
            assert!(session.extends_connect(), "RFC 8441 is offered");
        }
        let mut socket = session
            .web_socket(&authority, "/chat")
            .unwrap_or_else(|answer| panic!("WebSocket handshake failed: {answer:?}"));
        socket.send(Opcode::Text, b"hello");
        assert_eq!(socket.receive(), Some((Opcode::Text, b"hello".to_vec())));
        socket.send(Opcode::Ping, b"?");
        assert_eq!(socket.receive(), Some((Opcode::Pong, b"?".to_vec())));
        let large = pattern(1 << 20);
        socket.send(Opcode::Binary, &large);
        assert!(socket.receive() == Some((Opcode::Binary, large)));
        socket.send(Opcode::Close, &1000_u16.to_be_bytes());
        assert_eq!(socket.receive(), Some((Opcode::Close, vec![3, 232])));
        assert_eq!(socket.receive(), None, "the connection is over");
        let seen = scene.origin.only_request();
        assert_eq!(seen.path, "/chat");
        assert_eq!(seen.field("sec-websocket-version").as_deref(), Some("13"));
        if seen.version == Version::Http2 {
            assert_eq!(seen.protocol.as_deref(), Some("websocket"));
        }
    }
}

#[test]
fn an_origin_that_declines_is_heard() {
    for offer in [Offer::Http1, Offer::Http2] {
        let scene = Scene::of(offer, offer, Answer::status(403).field("X-Why", "no"));
        let authority = scene.authority();
        let answer = scene.client().https(&authority).web_socket(&authority, "/");
        let answer = answer.err().expect("the origin declines");
        assert_eq!(
            (answer.status, answer.field("x-why").as_deref()),
            (403, Some("no"))
        );
    }
}

#[test]
fn an_origin_without_extended_connect_is_asked_in_http1() {
    // Most HTTP/2 servers support WebSockets over HTTP/1.1 only.
    let pki = Pki::new();
    let scene = Scene {
        origin: pki
            .origin()
            .without_extended_connect()
            .answering(Answer::web_socket()),
        proxy: pki.intercepting().start(),
        client: Offer::Http1,
        pki,
    };
    let authority = scene.authority();
    let session = scene.client().https(&authority);
    let mut socket = session
        .web_socket(&authority, "/")
        .unwrap_or_else(|answer| panic!("WebSocket handshake failed: {answer:?}"));
    socket.send(Opcode::Text, b"hello");
    assert_eq!(socket.receive(), Some((Opcode::Text, b"hello".to_vec())));
    assert_eq!(scene.origin.only_request().version, Version::Http1);
}

#[test]
fn a_web_socket_does_not_hold_up_other_streams() {
    let scene = {
        let pki = Pki::new();
        let origin = pki.origin().serve(|seen| match seen.path.as_str() {
            "/socket" => Answer::web_socket(),
            _ => Answer::ok("ok"),
        });
        let proxy = pki.intercepting().start();
        Scene {
            pki,
            proxy,
            origin,
            client: Offer::Http2,
        }
    };
    let authority = scene.authority();
    let client = scene.client();
    let mut socket = client
        .https(&authority)
        .web_socket(&authority, "/socket")
        .unwrap_or_else(|answer| panic!("WebSocket handshake failed: {answer:?}"));
    let mut session = client.https(&authority);
    for number in 0..10 {
        let text = format!("message {number}");
        socket.send(Opcode::Text, text.as_bytes());
        assert_eq!(
            session.ask(Ask::get(&authority, "/")).told(),
            (200, "ok".into())
        );
        assert_eq!(socket.receive(), Some((Opcode::Text, text.into_bytes())));
    }
}
