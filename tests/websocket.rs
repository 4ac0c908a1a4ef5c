//! WebSockets (RFC 6455), with and without plugins that inspect their messages.
//!
//! The plugin is `Sockets` of the zoo: text messages are its commands. Binary messages are the origin's commands: it
//! sends their content as raw bytes, so a test writes the frames of both sides. It answers all other frames like an
//! ordinary server.

/// How a WebSocket ends: Closes, plugins, failures, peers that leave.
mod closing;
/// Protocol errors, and how each side is notified.
mod faults;
/// Encoding and decoding frames.
pub(crate) mod frames;
/// Memory and time limits.
mod limits;
/// Messages that pass, and changes by plugins.
mod messages;
/// The opening handshake, and WebSockets without inspecting plugins.
mod opening;
/// Third-party peers.
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

/// Sends the content of binary messages, answers Ping and Close, echoes text.
fn obedient() -> Origin {
    Origin::serve(|peer| {
        if peer.head().is_some() && peer.send(SWITCH) {
            while obey(peer).is_some() {}
        }
    })
}

/// Acts on the next frame; `None` at the end.
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

/// Requests a WebSocket, with additional fields.
fn ask(client: &mut Client, origin: &Origin, fields: &str) -> Message {
    client.send(request("GET", origin, "/", &format!("{ASK}{fields}")));
    client.response()
}

/// Makes the origin send these bytes.
fn have_sent(client: &mut Client, bytes: &[u8]) {
    client.send(masked(FIN | BINARY, bytes));
}

/// Every frame that the origin has received, unmasked.
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

/// Waits until the origin has received a frame.
fn wait_for_frame(origin: &Origin, first: u8, data: &[u8]) {
    let what = format!("{first:#x} {}", data.escape_ascii());
    origin.wait_until(&what, |connections| {
        frames_in(&connections.concat()).contains(&(first, data.to_vec()))
    });
}
