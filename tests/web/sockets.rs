//! WebSockets served by the proxy itself (RFC 6455), with the fixture `Sockets`.

use super::{ask, get};
use crate::support::tls::{Form, Opcode, Pki, Way, WebSocket};
use crate::support::{Client, End, Proxy};
use crate::websocket::frames::{
    BINARY, CLOSE, FIN, Frames, PING, PONG, TEXT, closed, expect, frame, head, masked,
};

const ASK: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn sockets() -> Proxy {
    Proxy::command().plugin("routes", "Sockets").start()
}

/// Opens a WebSocket.
#[track_caller]
fn open(proxy: &Proxy, path: &str) -> Client {
    let mut client = proxy.client();
    client.send(ask("GET", path, ASK));
    // The plugin may accept it implicitly, with its first message.
    let answer = client.response();
    assert_eq!(answer.status(), 101, "{}", answer.start);
    assert_eq!(
        answer.all("Sec-WebSocket-Accept"),
        ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
    );
    assert_eq!(answer.all("Upgrade"), ["websocket"]);
    assert_eq!(answer.all("Connection"), ["Upgrade"]);
    client
}

/// Expects a Close with this code, then the end of the connection.
#[track_caller]
fn expect_close(client: &mut Client, code: u16) {
    let frame = client.frame().expect("a client waits for its frames");
    assert_eq!(frame.first, FIN | CLOSE, "{frame:?}");
    assert_eq!(
        frame.data.get(..2),
        Some(&code.to_be_bytes()[..]),
        "{frame:?}"
    );
    client.try_send(masked(FIN | CLOSE, closed(code, "")));
    client.read_to_end();
    assert_eq!(client.rest(), b"");
}

#[test]
fn messages_come_and_go_until_the_client_closes() {
    let proxy = sockets();
    let mut client = open(&proxy, "/echo/a%20b");
    client.send(masked(FIN | TEXT, "hello"));
    expect(&mut client, FIN | TEXT, "hello");
    client.send(masked(FIN | BINARY, [0, 255]));
    expect(&mut client, FIN | BINARY, [0, 255]);
    client.send(masked(FIN | PING, "are you there"));
    expect(&mut client, FIN | PONG, "are you there");
    // Fragmented, with a Ping between the fragments.
    client.send(masked(TEXT, "one, "));
    client.send(masked(FIN | PING, ""));
    client.send(masked(FIN, "two"));
    expect(&mut client, FIN | PONG, "");
    expect(&mut client, FIN | TEXT, "one, two");
    client.send(masked(FIN | TEXT, ""));
    expect(&mut client, FIN | TEXT, "");
    client.send(masked(FIN | CLOSE, closed(3000, "enough")));
    let close = client.frame().expect("a Close is answered");
    assert_eq!(close.first, FIN | CLOSE);
    assert_eq!(client.read_to_end(), End::Closed);
    proxy.wait_for_line("opened a b");
    proxy.wait_for_line("closed Some(3000) \"enough\"");
    let line = proxy.wait_for_line(" - GET /echo/a%20b - ");
    assert!(line.contains(" - 101 Switching Protocols - "), "{line}");
}

#[test]
fn a_client_that_leaves_is_told_to_the_plugin() {
    let proxy = sockets();
    let mut leaving = open(&proxy, "/echo/leaving");
    leaving.finish();
    proxy.wait_for_line("closed None \"\"");
    let reset = open(&proxy, "/echo/reset");
    reset.reset();
    proxy.wait_for_lines("closed None \"\"", 2);
}

#[test]
fn a_plugin_may_close_with_a_code_and_a_reason() {
    let proxy = sockets();
    let mut client = open(&proxy, "/echo/x");
    client.send(masked(FIN | TEXT, "close"));
    expect(&mut client, FIN | CLOSE, closed(4000, "bye"));
    client.send(masked(FIN | CLOSE, closed(4000, "bye")));
    assert_eq!(client.read_to_end(), End::Closed);
    proxy.wait_for_line("closed Some(4000) \"bye\"");
}

#[test]
fn a_plugin_may_speak_without_being_asked() {
    let proxy = sockets();
    let mut client = open(&proxy, "/clock");
    for number in 0..3 {
        expect(&mut client, FIN | TEXT, format!("tick {number}"));
    }
    expect_close(&mut client, 1000);
}

#[test]
fn the_subprotocol_is_one_that_the_client_offers() {
    let proxy = sockets();
    let mut client = proxy.client();
    let offer = "Sec-WebSocket-Protocol: chat.v1, chat.v2\r\n";
    client.send(ask("GET", "/chat", &format!("{ASK}{offer}")));
    let answer = client.response();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.all("Sec-WebSocket-Protocol"), ["chat.v2"]);
    client.send(masked(FIN | TEXT, "hello"));
    expect(&mut client, FIN | TEXT, "hello");

    // The plugin fails if it selects a subprotocol that was not offered.
    for offer in ["", "Sec-WebSocket-Protocol: chat.v1\r\n"] {
        let refused = proxy.ask(ask("GET", "/chat", &format!("{ASK}{offer}")));
        assert_eq!(refused.status(), 500, "{offer}");
        assert_eq!(refused.all("Sec-WebSocket-Protocol"), [""; 0]);
    }
    // Without a choice by the plugin, no subprotocol is selected; extensions are never negotiated.
    let mut client = proxy.client();
    let offers = format!("{ASK}{offer}Sec-WebSocket-Extensions: permessage-deflate\r\n");
    client.send(ask("GET", "/echo/x", &offers));
    let answer = client.response();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.all("Sec-WebSocket-Protocol"), [""; 0]);
    assert_eq!(answer.all("Sec-WebSocket-Extensions"), [""; 0]);
}

#[test]
fn a_plugin_may_refuse_before_it_accepts() {
    let proxy = sockets();
    let mut client = proxy.client();
    client.send(ask("GET", "/closed", ASK));
    let answer = client.response();
    assert_eq!(
        (answer.status(), answer.text()),
        (403, "not for you".into())
    );
    assert!(answer.is_sound());
    let broken = proxy.ask(ask("GET", "/broken", ASK));
    assert_eq!(broken.status(), 500);
    proxy.wait_for_line("cannot open");
}

#[test]
fn a_handshake_that_is_none_is_refused() {
    let proxy = sockets();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (without, with, status) in [
        (
            "Sec-WebSocket-Version: 13\r\n",
            "Sec-WebSocket-Version: 8\r\n",
            426,
        ),
        ("Sec-WebSocket-Version: 13\r\n", "", 426),
        (key, "", 400),
        (key, "Sec-WebSocket-Key: short\r\n", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n", 400),
        (key, &format!("{key}{key}"), 400),
        ("Connection: Upgrade\r\n", "", 426),
        ("Upgrade: websocket\r\n", "Upgrade: other\r\n", 426),
    ] {
        let answer = proxy.ask(ask("GET", "/echo/x", &ASK.replace(without, with)));
        assert_eq!(answer.status(), status, "{with} instead of {without}");
        assert!(answer.is_sound());
        if status == 426 {
            assert_eq!(answer.all("Sec-WebSocket-Version"), ["13"]);
            assert_eq!(answer.all("Upgrade"), ["websocket"]);
        }
    }
    let post = proxy.ask(ask("POST", "/echo/x", ASK));
    assert!(matches!(post.status(), 400 | 405 | 426), "{}", post.start);
    let old = proxy.ask(format!("GET /echo/x HTTP/1.0\r\nHost: here\r\n{ASK}\r\n"));
    assert!(matches!(old.status(), 400 | 426), "{}", old.start);
    // A request without an upgrade gets 426.
    let plain = proxy.ask(get("/echo/x"));
    assert_eq!(plain.status(), 426);
    assert_eq!(plain.all("Sec-WebSocket-Version"), ["13"]);
    assert_eq!(proxy.ask(get("/echo/x/y")).status(), 404);
}

#[test]
fn a_route_may_be_both() {
    let proxy = sockets();
    let mut client = proxy.client();
    let plain = client.ask(get("/both"));
    assert_eq!((plain.status(), plain.text()), (200, "plain".into()));
    let mut socket = open(&proxy, "/both");
    socket.send(masked(FIN | TEXT, "hello"));
    expect(&mut socket, FIN | TEXT, "hello");
    assert_eq!(client.ask(ask("POST", "/both", "")).status(), 405);
}

/// Protocol violations on an open WebSocket, each with the expected close code.
#[test]
fn what_breaks_the_protocol_is_closed_with_its_code() {
    let proxy = sockets();
    for (bytes, code) in [
        // Unmasked.
        (frame(FIN | TEXT, "hello"), 1002),
        // Reserved bits; undefined opcodes.
        (masked(FIN | 0x40 | TEXT, "hello"), 1002),
        (masked(FIN | 0x20 | TEXT, "hello"), 1002),
        (masked(FIN | 3, "hello"), 1002),
        (masked(FIN | 0x0b, ""), 1002),
        // A fragmented Ping; a Ping that is too long.
        (masked(PING, "x"), 1002),
        (masked(FIN | PING, [0; 126]), 1002),
        // A continuation without a message; a new message before the previous one is complete.
        (masked(FIN, "x"), 1002),
        ([masked(TEXT, "x"), masked(FIN | TEXT, "y")].concat(), 1002),
        // Invalid UTF-8; invalid Close frames.
        (masked(FIN | TEXT, [0xff]), 1007),
        (masked(FIN | CLOSE, [3]), 1002),
        (masked(FIN | CLOSE, closed(1005, "")), 1002),
    ] {
        let mut client = open(&proxy, "/echo/x");
        client.send(&bytes);
        expect_close(&mut client, code);
    }
    let mut client = open(&proxy, "/echo/alive");
    client.send(masked(FIN | TEXT, "hello"));
    expect(&mut client, FIN | TEXT, "hello");
}

#[test]
fn a_message_that_is_too_long_is_refused_before_it_has_come() {
    let proxy = Proxy::command()
        .config("[limits]\nmax_body_buffer = 1000")
        .plugin("routes", "Sockets")
        .start();
    let mut client = open(&proxy, "/echo/x");
    client.send(masked(FIN | BINARY, [7; 1000]));
    expect(&mut client, FIN | BINARY, [7; 1000]);
    let mut announced = head(FIN | BINARY, 1 << 40);
    announced[1] |= 0x80;
    client.send([announced, vec![0; 4]].concat());
    expect_close(&mut client, 1009);
    // Fragmented.
    let mut client = open(&proxy, "/echo/x");
    client.send(masked(BINARY, [7; 600]));
    client.send(masked(FIN, [7; 600]));
    expect_close(&mut client, 1009);
}

#[test]
fn a_plugin_that_fails_closes_with_1011_and_the_proxy_lives() {
    let mut proxy = sockets();
    for text in ["fail", "panic"] {
        let mut client = open(&proxy, "/echo/x");
        client.send(masked(FIN | TEXT, text));
        expect_close(&mut client, 1011);
        proxy.wait_for_line(&format!("told to {text}"));
    }
    assert!(proxy.is_running());
    assert_eq!(proxy.ask(get("/both")).text(), "plain");
}

#[test]
fn many_messages_keep_their_order() {
    let proxy = sockets();
    let mut client = open(&proxy, "/echo/x");
    let texts: Vec<String> = (0..2000)
        .map(|number| format!("message {number}"))
        .collect();
    for batch in texts.chunks(100) {
        let frames: Vec<Vec<u8>> = batch.iter().map(|text| masked(FIN | TEXT, text)).collect();
        client.send(frames.concat());
        for text in batch {
            expect(&mut client, FIN | TEXT, text);
        }
    }
    let long = crate::support::pattern(500_000);
    client.send(masked(FIN | BINARY, &long));
    expect(&mut client, FIN | BINARY, &long);
}

#[test]
fn over_tls_and_http2_web_sockets_are_the_same() {
    let pki = Pki::new();
    let secure = pki.relaying().args(pki.listener());
    let secure = secure.plugin("routes", "Sockets").start();
    let clear = sockets();
    for (proxy, way) in [
        (&clear, Way::Clear),
        (&secure, Way::Tls),
        (&secure, Way::Http2),
    ] {
        let scheme = if way == Way::Clear { "http" } else { "https" };
        let connect = |path: &str| {
            let pipe = pki.client(proxy).over(way).pipe();
            pipe.session(Form::Origin(scheme)).web_socket("here", path)
        };
        let opened = connect("/echo/x");
        let mut socket: WebSocket = opened.unwrap_or_else(|answer| panic!("{way:?}: {answer:?}"));
        for text in ["one", "two"] {
            socket.send(Opcode::Text, text.as_bytes());
            let said = socket.receive();
            assert_eq!(
                said,
                Some((Opcode::Text, text.as_bytes().to_vec())),
                "{way:?}"
            );
        }
        socket.send(Opcode::Text, b"close");
        let close = (Opcode::Close, closed(4000, "bye"));
        assert_eq!(socket.receive(), Some(close.clone()), "{way:?}");
        socket.send(close.0, &close.1);
        assert_eq!(socket.receive(), None);

        let mut clock = connect("/clock").unwrap_or_else(|answer| panic!("{way:?}: {answer:?}"));
        for number in 0..3 {
            let text = format!("tick {number}").into_bytes();
            assert_eq!(clock.receive(), Some((Opcode::Text, text)), "{way:?}");
        }
        for (path, status) in [("/closed", 403), ("/broken", 500), ("/none", 404)] {
            let refused = connect(path).err().map(|answer| answer.status);
            assert_eq!(refused, Some(status), "{way:?} {path}");
        }
    }
}
