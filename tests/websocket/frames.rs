//! WebSocket frames as bytes, encoded independently of the proxy.

use crate::support::{Client, Peer};

pub(crate) const FIN: u8 = 0x80;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A frame as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// FIN, reserved bits and opcode.
    pub(crate) first: u8,
    pub(crate) mask: Option<[u8; 4]>,
    /// Its data, unmasked.
    pub(crate) data: Vec<u8>,
}

/// The head of an unmasked frame.
pub(crate) fn head(first: u8, len: u64) -> Vec<u8> {
    let mut head = vec![first];
    match len {
        0..126 => head.push(len as u8),
        126..65536 => {
            head.push(126);
            head.extend((len as u16).to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend(len.to_be_bytes());
        }
    }
    head
}

/// An unmasked frame, as servers send it.
pub(crate) fn frame(first: u8, data: impl AsRef<[u8]>) -> Vec<u8> {
    let data = data.as_ref();
    [head(first, data.len() as u64), data.to_vec()].concat()
}

/// A masked frame, as clients send it.
pub(crate) fn masked(first: u8, data: impl AsRef<[u8]>) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let data = data.as_ref();
    let mut bytes = head(first, data.len() as u64);
    bytes[1] |= 0x80;
    bytes.extend(MASK);
    bytes.extend(data.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    bytes
}

/// The data of a Close frame.
pub(crate) fn closed(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// A source of frames.
pub(crate) trait Frames {
    /// The next bytes; `None` if they do not arrive.
    fn bytes(&mut self, len: usize) -> Option<Vec<u8>>;

    /// The next frame.
    fn frame(&mut self) -> Option<Frame> {
        let [first, second] = self.bytes(2)?.try_into().ok()?;
        let written = match second & 0x7f {
            126 => self.bytes(2)?,
            127 => self.bytes(8)?,
            len => vec![len],
        };
        let len = written
            .iter()
            .fold(0, |len, &byte| len << 8 | usize::from(byte));
        let mask = match second & 0x80 {
            0 => None,
            _ => Some(self.bytes(4)?.try_into().ok()?),
        };
        let key = mask.unwrap_or([0; 4]);
        let data = self.bytes(len)?;
        let plain = data.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b);
        Some(Frame {
            first,
            mask,
            data: plain.collect(),
        })
    }
}

impl Frames for Peer {
    fn bytes(&mut self, len: usize) -> Option<Vec<u8>> {
        self.take(len)
    }
}

impl Frames for Client {
    fn bytes(&mut self, len: usize) -> Option<Vec<u8>> {
        Some(self.read_exact(len))
    }
}

impl Frames for Vec<u8> {
    fn bytes(&mut self, len: usize) -> Option<Vec<u8>> {
        (len <= self.len()).then(|| self.drain(..len).collect())
    }
}

/// Reads the next frame, which must be this one, unmasked.
#[track_caller]
pub(crate) fn expect(client: &mut Client, first: u8, data: impl AsRef<[u8]>) {
    let frame = client.frame().expect("a client waits for its frames");
    let expected = Frame {
        first,
        mask: None,
        data: data.as_ref().to_vec(),
    };
    assert!(
        frame == expected,
        "{:#x} {} instead of {first:#x} {}",
        frame.first,
        crate::support::shown(&frame.data),
        crate::support::shown(&expected.data),
    );
}
