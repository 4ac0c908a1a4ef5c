//! Bytes relayed in a tunnel, and the plugins that see them.

use super::zoo;
use crate::support::{Client, End, Origin, Proxy};

fn bored() -> Proxy {
    zoo("Bore").start()
}

/// An origin that sends `what` when the client sends `send <what>`.
fn obedient() -> Origin {
    Origin::serve(|peer| {
        let mut seen = 0;
        while peer.read_more() {
            let received = peer.received();
            let asked = String::from_utf8_lossy(&received[seen..]).into_owned();
            seen = received.len();
            match asked.strip_prefix("SEND ") {
                Some(what) => peer.send(what.to_lowercase()),
                None => peer.send("fine"),
            };
        }
    })
}

#[track_caller]
fn assert_alive(client: &mut Client) {
    client.send("hello");
    assert_eq!(client.read_exact(4), b"FINE");
}

#[test]
fn both_directions_are_seen_and_may_be_replaced() {
    let origin = obedient();
    let proxy = bored();
    let mut client = proxy.tunnel(&origin);
    client.send("hello");
    assert_eq!(client.read_exact(4), b"FINE");
    assert_eq!(origin.messages().len(), 0);
    assert_eq!(origin.received(), b"HELLO");
    for line in ["bore Client: hello", "bore Upstream: fine"] {
        proxy.wait_for_line(line);
    }
}

#[test]
fn what_is_dropped_does_not_arrive() {
    let origin = obedient();
    let proxy = bored();
    let mut client = proxy.tunnel(&origin);
    assert_alive(&mut client);
    client.send("drop");
    proxy.wait_for_line("bore Client: drop");
    client.send("send drop");
    proxy.wait_for_line("bore Upstream: drop");
    assert_alive(&mut client);
    assert_eq!(origin.received(), b"HELLOSEND DROPHELLO");
}

#[test]
fn a_plugin_that_closes_or_fails_resets_both_sides() {
    for (word, logged) in [
        ("close", None),
        ("fail", Some("a cave-in")),
        ("panic", Some("gas in the tunnel")),
    ] {
        for from_origin in [false, true] {
            let origin = obedient();
            let proxy = bored();
            let mut client = proxy.tunnel(&origin);
            assert_alive(&mut client);
            match from_origin {
                false => client.send(word),
                true => client.send(format!("send {word}")),
            }
            assert_eq!(client.read_to_end(), End::Reset, "{word} {from_origin}");
            assert_eq!(client.rest(), b"");
            origin.wait_for_end();
            if let Some(logged) = logged {
                let line = proxy.wait_for_line(logged);
                assert!(line.contains("Bore") && line.contains("ERROR"), "{line}");
            }
        }
    }
}

#[test]
fn a_plugin_that_closes_after_a_half_close_resets_too() {
    let origin = Origin::serve(|peer| {
        peer.park();
        peer.send("close");
        peer.pause(200);
    });
    let proxy = bored();
    let mut client = proxy.tunnel(&origin);
    client.send("hello");
    client.finish();
    assert_eq!(
        client.read_to_end(),
        End::Reset,
        "a broken tunnel must not look whole"
    );
    assert_eq!(client.rest(), b"");
}

#[test]
fn bytes_that_came_with_the_request_are_seen() {
    let origin = obedient();
    let proxy = bored();
    let authority = origin.authority();
    let mut client = proxy.client();
    client.send(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\nhello"
    ));
    assert_eq!(client.response_to("CONNECT").status(), 200);
    assert_eq!(client.read_exact(4), b"FINE");
    assert_eq!(origin.received(), b"HELLO");
}

#[test]
fn half_closes_still_pass() {
    let origin = Origin::serve(|peer| {
        peer.park();
        peer.send("you said ");
        peer.send(peer.received());
    });
    let proxy = bored();
    let mut client = proxy.tunnel(&origin);
    client.send("goodbye");
    client.finish();
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(client.rest(), b"YOU SAID GOODBYE");
}

#[test]
fn much_passes_whole() {
    let content = "abcdefgh".repeat(512 * 1024);
    let origin = Origin::echoing();
    let proxy = bored();
    let mut client = proxy.tunnel(&origin);
    let mut socket = client.socket().try_clone().expect("a socket can be cloned");
    let sent = content.clone();
    let sender = std::thread::spawn(move || {
        std::io::Write::write_all(&mut socket, sent.as_bytes()).expect("the tunnel takes it");
    });
    let received = client.read_exact(content.len());
    sender.join().expect("the sender ends");
    assert!(received == content.to_uppercase().as_bytes());
}

#[test]
fn upgraded_connections_are_tunnels() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        peer.read_more();
        peer.send("fine");
        peer.park();
    });
    let proxy = bored();
    let mut client = proxy.client();
    let fields = "Connection: upgrade\r\nUpgrade: echo\r\n";
    client.send(crate::support::request("GET", &origin, "/", fields));
    assert_eq!(client.response().status(), 101);
    client.send("hello");
    assert_eq!(client.read_exact(4), b"FINE");
    origin.wait_for(b"HELLO");
}
