//! WebSockets (RFC 6455), as far as tests need them.

use std::io::Cursor;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::stream_io::Io;
use crate::support::background::within;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn of(bits: u8) -> Option<Opcode> {
        let all = [
            Opcode::Text,
            Opcode::Binary,
            Opcode::Close,
            Opcode::Ping,
            Opcode::Pong,
        ];
        all.into_iter().find(|each| *each as u8 == bits)
    }
}

/// The client side, after the handshake.
pub(crate) struct WebSocket {
    /// Bytes that arrived with the response.
    received: Cursor<Vec<u8>>,
    io: Io,
}

impl WebSocket {
    /// The key that clients of these tests send.
    pub(crate) const KEY: &'static str = "dGhlIHNhbXBsZSBub25jZQ==";

    pub(super) fn new(received: Vec<u8>, io: Io) -> WebSocket {
        let received = Cursor::new(received);
        WebSocket { received, io }
    }

    /// Sends a frame with a whole message.
    pub(crate) fn send(&mut self, opcode: Opcode, content: &[u8]) {
        let frame = frame(opcode, content, Some([7, 1, 8, 2]));
        within("room for a frame", self.io.write_all(&frame)).expect("the proxy takes it");
        within("room for a frame", self.io.flush()).expect("the proxy takes it");
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn receive(&mut self) -> Option<(Opcode, Vec<u8>)> {
        let mut incoming = (&mut self.received).chain(&mut self.io);
        within("a frame", read_frame(&mut incoming))
    }
}

/// The server's answer to `key`.
pub(crate) fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

/// Echoes every message, until the client closes.
pub(super) async fn echo(io: &mut Io) {
    while let Some((opcode, content)) = read_frame(io).await {
        let answer = match opcode {
            Opcode::Ping => Opcode::Pong,
            other => other,
        };
        let written = io.write_all(&frame(answer, &content, None)).await;
        if written.is_err() || io.flush().await.is_err() || opcode == Opcode::Close {
            break;
        }
    }
    drop(io.shutdown().await);
}

/// A frame; `None` if the connection ends before, or if it is of an unsupported type.
async fn read_frame(io: &mut (impl AsyncRead + Unpin)) -> Option<(Opcode, Vec<u8>)> {
    let mut head = [0; 2];
    io.read_exact(&mut head).await.ok()?;
    let opcode = Opcode::of(head[0] & 0x0f).filter(|_| head[0] & 0xf0 == 0x80)?;
    let len = match head[1] & 0x7f {
        126 => usize::from(io.read_u16().await.ok()?),
        127 => usize::try_from(io.read_u64().await.ok()?).ok()?,
        len => usize::from(len),
    };
    let mut mask = [0; 4];
    if head[1] & 0x80 != 0 {
        io.read_exact(&mut mask).await.ok()?;
    }
    let mut content = Vec::new();
    let read = io.take(len as u64).read_to_end(&mut content).await.ok()?;
    apply(&mask, &mut content);
    (read == len).then_some((opcode, content))
}

fn frame(opcode: Opcode, content: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![0x80 | opcode as u8];
    match content.len() {
        len @ 0..126 => frame.push(masked | len as u8),
        len @ 126..=0xffff => {
            frame.push(masked | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(masked | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    let mut content = content.to_vec();
    if let Some(mask) = mask {
        frame.extend(mask);
        apply(&mask, &mut content);
    }
    frame.extend(content);
    frame
}

fn apply(mask: &[u8; 4], content: &mut [u8]) {
    for (byte, mask) in content.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// RFC 4648, with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = 0;
        for at in 0..3 {
            bits = bits << 8 | u32::from(group.get(at).copied().unwrap_or(0));
        }
        for at in 0..4 {
            let digit = (bits >> (18 - 6 * at)) as usize & 63;
            text.push(if at <= group.len() {
                char::from(DIGITS[digit])
            } else {
                '='
            });
        }
    }
    text
}
