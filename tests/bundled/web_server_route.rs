//! A plugin answers requests for the proxy itself: in clear text, over TLS and as WebSockets.

use tungstenite::protocol::Role;
use tungstenite::{Error, Message, WebSocket};

use crate::support::tls::{Ask, Form, Pki, Way};
use crate::support::{Framing, HANG, Proxy, plugin_directory};

fn serving() -> Proxy {
    let command = Proxy::command().plugin("web_server_route", "WebServerPlugin");
    command.start()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost:8899\r\n\r\n")
}

#[test]
fn each_route_answers_on_its_own_protocol() {
    let proxy = serving();
    let answer = proxy.ask(get("/http-route-example"));
    assert_eq!(answer.start, "HTTP/1.1 200 OK");
    assert_eq!(answer.text(), "HTTP route response");
    assert_eq!(proxy.ask(get("/https-route-example")).status(), 404);
    // Routes match without the query.
    assert_eq!(proxy.ask(get("/http-route-example?x=1")).status(), 200);

    let pki = Pki::new();
    let proxy = pki
        .relaying()
        .args(pki.listener())
        .plugin("web_server_route", "WebServerPlugin")
        .start();
    let pipe = pki.client(&proxy).over(Way::Tls).pipe();
    let mut session = pipe.session(Form::Origin("https"));
    let mut ask = |path| session.ask(Ask::get("localhost:8899", path));
    let answer = ask("/https-route-example").told();
    assert_eq!(answer, (200, "HTTPS route response".to_owned()));
    assert_eq!(ask("/http-route-example").status, 404);
}

#[test]
fn a_name_is_taken_from_the_path_and_lines_are_streamed() {
    let proxy = serving();
    let mut client = proxy.client();
    let hello = client.ask(get("/hello-route-example/J%C3%BCrgen%20M"));
    assert_eq!(hello.text(), "Hello, Jürgen M\n");
    let lines = client.ask(get("/stream-route-example/5000"));
    assert_eq!((lines.status(), lines.framing), (200, Framing::Chunked));
    assert!(lines.is_sound(), "{:?}", lines.fault);
    let expected: String = (1..=5000)
        .map(|number| format!("line {number}\n"))
        .collect();
    assert!(lines.text() == expected);
    assert_eq!(client.ask(get("/stream-route-example/many")).status(), 400);
    let post = "POST /hello-route-example/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let refused = client.ask(post);
    assert_eq!(refused.status(), 405);
    assert_eq!(refused.field("Allow").as_deref(), Some("GET, HEAD"));
}

#[test]
fn a_hundred_requests_share_a_connection() {
    let proxy = serving();
    let mut client = proxy.client();
    for _ in 0..50 {
        assert_eq!(client.ask(get("/http-route-example")).status(), 200);
        assert_eq!(client.ask(get("/nothing")).status(), 404);
    }
    proxy.wait_for_lines("/http-route-example", 50);
}

#[test]
fn messages_of_a_web_socket_come_back_and_are_logged() {
    let proxy = serving();
    let mut client = proxy.client();
    client.send(
        "GET /ws-route-example HTTP/1.1\r\nHost: localhost:8899\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let answer = client.response();
    assert_eq!(answer.status(), 101);
    let accepted = answer.field("Sec-WebSocket-Accept");
    assert_eq!(accepted.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let socket = client.socket().try_clone().expect("a socket can be cloned");
    socket
        .set_read_timeout(Some(HANG))
        .expect("TCP has this option");
    let mut socket =
        WebSocket::from_partially_read(socket, client.rest().to_vec(), Role::Client, None);
    for message in [
        Message::text("hello\nWorld"),
        Message::text(""),
        Message::text("ä".repeat(100_000)),
        Message::binary(vec![7; 70_000]),
    ] {
        socket.send(message.clone()).expect("it is taken");
        assert!(socket.read().expect("an answer") == message);
    }
    socket.close(None).expect("it is taken");
    while let Ok(message) = socket.read() {
        assert!(message.is_close(), "{message}");
    }
    assert!(matches!(
        socket.read(),
        Err(Error::ConnectionClosed | Error::AlreadyClosed)
    ));
    let line = proxy.wait_for_line(r"WebSocket message: hello\nWorld");
    assert!(line.contains(" - INFO - "), "{line}");
    proxy.wait_for_line("WebSocket message: 70000 bytes");
    assert!(proxy.lines().iter().all(|line| line.len() < 2000));
    // The route serves WebSockets only.
    let refused = proxy.ask(get("/ws-route-example"));
    assert_eq!(refused.status(), 426);
}

#[test]
fn it_goes_by_the_names_that_it_has_in_proxy_py() {
    for name in [
        "plugin_examples/web_server_route.WebServerPlugin",
        "proxy.plugin.WebServerPlugin",
    ] {
        let directory = plugin_directory().as_os_str();
        let proxy = Proxy::command()
            .args(["--plugin-dir".as_ref(), directory])
            .args(["--plugins", name])
            .start();
        assert_eq!(
            proxy.ask(get("/http-route-example")).status(),
            200,
            "{name}"
        );
    }
}
