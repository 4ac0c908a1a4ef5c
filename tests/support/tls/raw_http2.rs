//! HTTP/2 by hand: frames of a peer that ignores the rules.

use super::Pipe;
use crate::support::End;

/// A frame (RFC 9113 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;

    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Frame {
        Frame {
            kind,
            flags,
            stream,
            payload: payload.into(),
        }
    }

    /// The encoded frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let len = u32::try_from(self.payload.len()).expect("a short payload");
        let mut bytes = len.to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The error code of a RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == Frame::GOAWAY { 4 } else { 0 };
        let code = self
            .payload
            .get(at..at + 4)
            .and_then(|code| code.try_into().ok());
        u32::from_be_bytes(code.expect("a frame with an error code"))
    }
}

/// A client or an origin that sends arbitrary frames.
pub(crate) struct RawHttp2 {
    pipe: Pipe,
}

impl RawHttp2 {
    pub(crate) const PREFACE: &'static [u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    /// Sends the preface and empty settings.
    pub(super) fn on(mut pipe: Pipe) -> RawHttp2 {
        let settings = Frame::new(Frame::SETTINGS, 0, 0, []).encode();
        pipe.send([RawHttp2::PREFACE, &settings].concat());
        RawHttp2 { pipe }
    }

    /// As an origin: reads the preface, and sends empty settings.
    pub(super) fn serving(mut pipe: Pipe) -> RawHttp2 {
        pipe.read_exact(RawHttp2::PREFACE.len());
        pipe.send(Frame::new(Frame::SETTINGS, 0, 0, []).encode());
        RawHttp2 { pipe }
    }

    /// The stream of the next request; `None` at the end of the connection.
    pub(crate) fn next_request(&mut self) -> Option<u32> {
        let head = self.wait_for(|frame| frame.kind == Frame::HEADERS);
        head.map(|head| head.stream)
    }

    /// Sends frames in one piece; `false` if the peer accepts no more.
    pub(crate) fn send(&mut self, frames: &[Frame]) -> bool {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        self.pipe.send(bytes)
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn receive(&mut self) -> Option<Frame> {
        while self.pipe.received().len() < 9 {
            if !self.pipe.fill() {
                return None;
            }
        }
        let head = &self.pipe.received()[..9];
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        while self.pipe.received().len() < 9 + len {
            if !self.pipe.fill() {
                return None;
            }
        }
        let bytes = self.pipe.take(9 + len);
        let stream = u32::from_be_bytes([bytes[5] & 0x7f, bytes[6], bytes[7], bytes[8]]);
        Some(Frame::new(bytes[3], bytes[4], stream, &bytes[9..]))
    }

    /// The first frame that `wanted` accepts; `None` if the connection ends before.
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.receive()?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// Reads to the end of the connection; returns the error code of its GOAWAY, if one arrived.
    pub(crate) fn wait_for_end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.receive() {
            if frame.kind == Frame::GOAWAY {
                code = Some(frame.code());
            }
        }
        assert!(matches!(self.pipe.end(), Some(End::Closed | End::Reset)));
        code
    }
}

/// A field section without compression: literals without indexing only (RFC 7541 §6.2.2).
pub(crate) fn literal(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = Vec::new();
    for (name, value) in fields {
        section.push(0);
        for text in [name, value] {
            push_len(text.len(), &mut section);
            section.extend(text.as_bytes());
        }
    }
    section
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn push_len(len: usize, out: &mut Vec<u8>) {
    if len < 127 {
        out.push(len as u8);
        return;
    }
    out.push(127);
    let mut left = len - 127;
    while left >= 128 {
        out.push((left % 128) as u8 | 128);
        left /= 128;
    }
    out.push(left as u8);
}
