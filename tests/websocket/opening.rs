//! The opening handshake, and WebSockets without listeners.

use super::frames::expect;
use super::{BINARY, FIN, PING, TEXT, ask, frame, frames_at, have_sent, masked, obedient, open};
use super::{SWITCH, sockets};
use crate::support::{Origin, Proxy, request};

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nSec-WebSocket-Protocol: chat\r\n";

#[test]
fn an_offer_to_compress_does_not_pass_a_listener() {
    let origin = obedient();
    let proxy = sockets().start();
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, &origin, DEFLATE).status(), 101);
    let asked = origin.messages().remove(0);
    assert_eq!(asked.all("Sec-WebSocket-Extensions"), [""; 0]);
    assert_eq!(asked.all("Sec-WebSocket-Protocol"), ["chat"]);
    assert_eq!(asked.all("Upgrade"), ["websocket"]);
}

#[test]
fn an_extension_that_was_not_offered_is_refused() {
    let origin = Origin::serve(|peer| {
        peer.head();
        let extension = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        peer.send(SWITCH.replace("\r\n\r\n", extension));
        peer.park();
    });
    let proxy = sockets().start();
    let mut client = proxy.client();
    let answer = ask(&mut client, &origin, DEFLATE);
    assert_eq!(answer.status(), 502);
    assert!(answer.text().contains("extension"), "{}", answer.text());
    origin.wait_for_end();
}

#[test]
fn other_answers_than_101_pass() {
    let origin = Origin::answering(crate::support::response("403 No", "denied"));
    let proxy = sockets().start();
    let mut client = proxy.client();
    let answer = ask(&mut client, &origin, DEFLATE);
    assert_eq!((answer.status(), answer.text().as_str()), (403, "denied"));
    // The connection stays usable.
    assert_eq!(client.ask(crate::support::get(&origin, "/")).status(), 403);
}

#[test]
fn without_a_listener_everything_passes_as_it_is() {
    let extension = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let origin = Origin::serve(move |peer| {
        peer.head();
        peer.send(SWITCH.replace("\r\n\r\n", extension));
        let mut sent = peer.received().len();
        while peer.read_more() {
            let received = peer.received();
            peer.send(&received[sent..]);
            sent = received.len();
        }
    });
    for proxy in [
        Proxy::start(),
        Proxy::command().plugin("zoo", "Nothing").start(),
        Proxy::command().plugin("zoo", "Sniffer").start(),
    ] {
        let mut client = proxy.client();
        let answer = ask(&mut client, &origin, DEFLATE);
        assert_eq!(
            answer.all("Sec-WebSocket-Extensions"),
            ["permessage-deflate"]
        );
        // A compressed text message, an unmasked one, and garbage.
        let bytes = [
            masked(FIN | 0x40 | TEXT, b"\xca\x00"),
            frame(FIN | TEXT, "x"),
            vec![0xff; 50],
        ];
        client.send(bytes.concat());
        assert_eq!(client.read_exact(bytes.concat().len()), bytes.concat());
    }
    let asked = origin.connections();
    let offered = b"permessage-deflate; client_max_window_bits";
    assert!(
        asked
            .iter()
            .all(|each| crate::support::contains(each, offered))
    );
}

#[test]
fn other_protocols_stay_tunnels() {
    let origin = Origin::serve(|peer| {
        let asked = peer.head().expect("it is asked");
        let offered = asked.all("Sec-WebSocket-Extensions");
        peer.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        );
        peer.send(offered.concat());
        peer.park();
    });
    let proxy = sockets().start();
    let mut client = proxy.client();
    let fields = "Connection: upgrade\r\nUpgrade: echo\r\nSec-WebSocket-Extensions: x\r\n";
    client.send(request("GET", &origin, "/", fields));
    assert_eq!(client.response().status(), 101);
    assert_eq!(client.read_exact(1), b"x");
    client.send("raw bytes");
    origin.wait_for(b"raw bytes");
}

#[test]
fn one_of_several_protocols_may_be_chosen() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send(SWITCH.replace("websocket", "WebSocket"));
        while super::obey(peer).is_some() {}
    });
    let proxy = sockets().start();
    let mut client = proxy.client();
    let fields = "Connection: upgrade\r\nUpgrade: echo, websocket\r\n";
    client.send(request("GET", &origin, "/", fields));
    assert_eq!(client.response().status(), 101);
    client.send(masked(FIN | TEXT, "hello"));
    expect(&mut client, FIN | TEXT, "HELLO");
}

#[test]
fn frames_right_behind_the_handshake_are_seen() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send([SWITCH.as_bytes(), &frame(FIN | TEXT, "welcome")].concat());
        while super::obey(peer).is_some() {}
    });
    let proxy = sockets().start();
    let mut client = proxy.client();
    let question = request("GET", &origin, "/", super::ASK);
    client.send([question.as_bytes(), &masked(FIN | TEXT, "impatient")].concat());
    assert_eq!(client.response().status(), 101);
    let mut frames = [
        super::Frames::frame(&mut client),
        super::Frames::frame(&mut client),
    ]
    .map(|frame| frame.map(|frame| frame.data));
    frames.sort();
    assert_eq!(
        frames,
        [Some(b"IMPATIENT".to_vec()), Some(b"WELCOME".to_vec())]
    );
}

#[test]
fn those_who_see_bytes_see_the_frames_as_they_come() {
    let origin = obedient();
    let proxy = sockets().plugin("zoo", "Sniffer").start();
    let mut client = open(&proxy, &origin);
    let hello = masked(FIN | TEXT, "hello");
    client.send(&hello);
    expect(&mut client, FIN | TEXT, "HELLO");
    proxy.wait_for_line(&format!("sniff Client: {}", hello.escape_ascii()));
    proxy.wait_for_line("sniff Upstream: \\x81\\x05HELLO");
    have_sent(&mut client, &frame(FIN | PING, "x"));
    expect(&mut client, FIN | PING, "x");
    assert_eq!(frames_at(&origin)[1].0, FIN | BINARY);
}
