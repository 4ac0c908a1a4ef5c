//! WebSockets whose messages plugins see (RFC 6455), and those that nobody listens to.
//!
//! The plugin is `Sockets` of the zoo, which does what texts say. The origin does what bytes say: it sends a binary message's
//! content as it stands, so that a test writes the frames of both sides; everything else it answers as a server does.

/// How a WebSocket ends: Closes, plugins, failures, peers that leave.
mod closing;
/// What breaks the protocol, and how each side is told.
mod faults;
/// Frames as bytes.
pub(crate) mod frames;
/// Memory and time.
mod limits;
/// What passes, and what plugins make of it.
mod messages;
/// The opening handshake, and WebSockets without listeners.
mod opening;
/// Peers that were written by others.
mod peers;

use crate::support::{Client, Message, Origin, Peer, Proxy, ProxyCommand, request};
use frames::{BINARY, CLOSE, FIN, Frame, Frames, PING, PONG, TEXT, frame, masked};

const ASK: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn sockets() -> ProxyCommand {
    Proxy::command().plugin("zoo", "Sockets")
}

/// Sends what binary messages contain, answers a Ping and a Close, says texts back.
fn obedient() -> Origin {
    Origin::serve(|peer| {
        if peer.head().is_some() && peer.send(SWITCH) {
            while obey(peer).is_some() {}
        }
    })
}

/// Does what the next frame says; `None` at the end.
fn obey(peer: &mut Peer) -> Option<()> {
    let Frame { first, data, .. } = peer.frame()?;
    let answer = match first & 0x0f {
        BINARY => data,
        PING => frame(FIN | PONG, &data),
        PONG => Vec::new(),
        _ => frame(first, &data),
    };
    let is_open = peer.send(answer);
    (is_open && first & 0x0f != CLOSE).then_some(())
}

/// An open WebSocket.
fn open(proxy: &Proxy, origin: &Origin) -> Client {
    let mut client = proxy.client();
    let answer = ask(&mut client, origin, "");
    assert_eq!(answer.status(), 101, "{}", answer.start);
    client
}

/// Asks for a WebSocket, with more fields.
fn ask(client: &mut Client, origin: &Origin, fields: &str) -> Message {
    client.send(request("GET", origin, "/", &format!("{ASK}{fields}")));
    client.response()
}

/// Has the origin send these bytes.
fn have_sent(client: &mut Client, bytes: &[u8]) {
    client.send(masked(FIN | BINARY, bytes));
}

/// Every frame that the origin has got, without its mask.
fn frames_at(origin: &Origin) -> Vec<(u8, Vec<u8>)> {
    frames_in(&origin.received())
}

fn frames_in(received: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let head = crate::support::position(received, b"\r\n\r\n").expect("the origin was asked");
    let mut rest = received[head + 4..].to_vec();
    std::iter::from_fn(|| rest.frame())
        .map(|frame| (frame.first, frame.data))
        .collect()
}

/// Waits until the origin has got a frame.
fn wait_for_frame(origin: &Origin, first: u8, data: &[u8]) {
    let what = format!("{first:#x} {}", data.escape_ascii());
    origin.wait_until(&what, |connections| {
        frames_in(&connections.concat()).contains(&(first, data.to_vec()))
    });
}
