//! A WebSocket frame with its payload, to and from bytes, and the key of the opening handshake (RFC 6455 §5.2, §4.2.2).
//!
//! Writes the fields as they are, valid or not, so that a test can send both; [`WebsocketFrame::check`] validates them.
//! [`WebsocketFrame::parse`] refuses violations within a single frame; [`Assembly`](super::Assembly) checks the rules
//! about several.

use proxy_websocket::{
    FrameError, FrameHead, HeadReader, Opcode, apply_mask, check_message, close_data,
};

use super::handshake;

/// The maximum payload that [`WebsocketFrame::parse`] accepts, in bytes: 16 MiB.
pub const DEFAULT_MAX_PAYLOAD: u64 = 16 * 1024 * 1024;

/// A WebSocket frame.
///
/// ```
/// use plugin_api::utilities::WebsocketFrame;
///
/// let frame = WebsocketFrame::text("hello");
/// assert_eq!(frame.build(), b"\x81\x05hello");
///
/// let bytes = b"\x81\x05hello\x89\x00";
/// let (frame, consumed) = WebsocketFrame::parse(bytes)?.unwrap();
/// assert_eq!(frame.as_text(), Some("hello"));
/// let (ping, _) = WebsocketFrame::parse(&bytes[consumed..])?.unwrap();
/// assert_eq!(ping, WebsocketFrame::ping(""));
///
/// // As clients have to send it:
/// let masked = WebsocketFrame::text("hello").masked_with(*b"\x37\xfa\x21\x3d");
/// assert_eq!(masked.build(), b"\x81\x85\x37\xfa\x21\x3d\x5f\x9f\x4d\x51\x58");
///
/// // As servers answer the handshake:
/// let accept = WebsocketFrame::key_to_accept("dGhlIHNhbXBsZSBub25jZQ==");
/// assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// # Ok::<(), plugin_api::utilities::FrameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebsocketFrame {
    /// It is the last frame of its message.
    pub fin: bool,
    /// The first reserved bit; used by compression (RFC 7692).
    pub rsv1: bool,
    /// The second reserved bit.
    pub rsv2: bool,
    /// The third reserved bit.
    pub rsv3: bool,
    /// The type of the frame.
    pub opcode: Opcode,
    /// The mask on the wire; none if it is not masked.
    pub mask: Option<[u8; 4]>,
    /// The payload, unmasked.
    pub payload: Vec<u8>,
}

impl WebsocketFrame {
    /// A whole message, without a mask.
    pub fn new(opcode: Opcode, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            fin: true,
            rsv1: false,
            rsv2: false,
            rsv3: false,
            opcode,
            mask: None,
            payload: payload.into(),
        }
    }

    /// A whole text message.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Opcode::Text, text.into())
    }

    /// A whole binary message.
    pub fn binary(data: impl Into<Vec<u8>>) -> Self {
        Self::new(Opcode::Binary, data)
    }

    /// A Ping, which requests a Pong. At most 125 bytes.
    pub fn ping(data: impl Into<Vec<u8>>) -> Self {
        Self::new(Opcode::Ping, data)
    }

    /// A Pong, which answers a Ping with its `data`.
    pub fn pong(data: impl Into<Vec<u8>>) -> Self {
        Self::new(Opcode::Pong, data)
    }

    /// A Close, the last frame of a side; see [`close_data`] for codes, and for reasons that are too long.
    pub fn close(code: u16, reason: &str) -> Self {
        Self::new(Opcode::Close, close_data(code, reason))
    }

    /// The last fragment of a message; with [`fragment`](Self::fragment), an earlier one.
    pub fn continuation(data: impl Into<Vec<u8>>) -> Self {
        Self::new(Opcode::Continuation, data)
    }

    /// Makes it a fragment: its message continues in the next frame.
    pub fn fragment(mut self) -> Self {
        self.fin = false;
        self
    }

    /// Sets the mask, which should be random. [`WebsocketClient`](super::WebsocketClient) does that itself.
    pub fn masked_with(mut self, mask: [u8; 4]) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Whether it is masked on the wire.
    pub fn is_masked(&self) -> bool {
        self.mask.is_some()
    }

    /// The text, or a fragment of one that ends between characters; none for other frames.
    pub fn as_text(&self) -> Option<&str> {
        match self.opcode {
            Opcode::Text => std::str::from_utf8(&self.payload).ok(),
            _ => None,
        }
    }

    /// The code of a Close, if it has one (RFC 6455 §7.4); none for other frames.
    pub fn close_code(&self) -> Option<u16> {
        match (self.opcode, &*self.payload) {
            (Opcode::Close, [high, low, ..]) => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        }
    }

    /// The reason of a Close, possibly empty; none for other frames.
    pub fn close_reason(&self) -> Option<&str> {
        match self.opcode {
            Opcode::Close => std::str::from_utf8(self.payload.get(2..).unwrap_or_default()).ok(),
            _ => None,
        }
    }

    /// The encoded frame, as its fields say.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_ROOM + self.payload.len());
        self.write(self.mask, &mut bytes);
        bytes
    }

    /// Appends the encoded frame, with this mask instead of its own.
    pub(super) fn write(&self, mask: Option<[u8; 4]>, out: &mut Vec<u8>) {
        self.head(mask).write(out);
        let start = out.len();
        out.extend_from_slice(&self.payload);
        if let Some(mask) = mask {
            apply_mask(&mut out[start..], mask, 0);
        }
    }

    /// Parses the frame at the start of `bytes`; returns it with its length, or none if it is incomplete. A payload
    /// above 16 MiB is refused.
    ///
    /// The mask and the reserved bits are not checked: they depend on the sender and on extensions.
    ///
    /// # Errors
    /// The frame violates the protocol: an invalid opcode or length, or a control frame that is too long or a fragment.
    /// What follows it cannot be parsed either.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        Self::parse_within(bytes, DEFAULT_MAX_PAYLOAD)
    }

    /// Like [`parse`](Self::parse), with payloads of up to this many bytes.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_within(bytes: &[u8], max_len: u64) -> Result<Option<(Self, usize)>, FrameError> {
        let mut rest = bytes;
        let Some(head) = HeadReader::of_either().read(&mut rest)? else {
            return Ok(None);
        };
        if head.len > max_len {
            return Err(FrameError::TooLong);
        }
        let payload = usize::try_from(head.len)
            .ok()
            .and_then(|len| rest.split_at_checked(len));
        let Some((payload, rest)) = payload else {
            return Ok(None);
        };
        let mut payload = payload.to_vec();
        if let Some(mask) = head.mask {
            apply_mask(&mut payload, mask, 0);
        }
        let frame = Self {
            fin: head.fin,
            rsv1: head.rsv1,
            rsv2: head.rsv2,
            rsv3: head.rsv3,
            opcode: head.opcode,
            mask: head.mask,
            payload,
        };
        Ok(Some((frame, bytes.len() - rest.len())))
    }

    /// Checks whether it may be sent without an extension. Fragments of text may end inside a character, so only whole
    /// texts are checked.
    ///
    /// # Errors
    /// Which rule it violates.
    pub fn check(&self) -> Result<(), FrameError> {
        if self.head(None).has_reserved_bits() {
            return Err(FrameError::Reserved);
        }
        match self.opcode.kind() {
            Some(kind) if self.fin => check_message(kind, &self.payload),
            Some(kind) if kind.is_control() => Err(FrameError::ControlFragmented),
            _ => Ok(()),
        }
    }

    /// The `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key` (RFC 6455 §4.2.2).
    pub fn key_to_accept(key: &str) -> String {
        handshake::accept(key)
    }

    fn head(&self, mask: Option<[u8; 4]>) -> FrameHead {
        FrameHead {
            fin: self.fin,
            rsv1: self.rsv1,
            rsv2: self.rsv2,
            rsv3: self.rsv3,
            opcode: self.opcode,
            mask,
            len: self.payload.len() as u64,
        }
    }
}

/// Room for the longest head, in bytes.
const HEAD_ROOM: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<WebsocketFrame> {
        let mut frames = vec![
            WebsocketFrame::text(""),
            WebsocketFrame::text("grüße"),
            WebsocketFrame::text("be").fragment(),
            WebsocketFrame::continuation("gun").fragment(),
            WebsocketFrame::continuation(""),
            WebsocketFrame::ping("?"),
            WebsocketFrame::pong([0xff; 125]),
            WebsocketFrame::close(1000, "bye"),
        ];
        for len in [125, 126, 65535, 65536] {
            frames.push(WebsocketFrame::binary(vec![7; len]));
        }
        let masked = |frame: &WebsocketFrame| frame.clone().masked_with(*b"mask");
        frames.extend(frames.iter().map(masked).collect::<Vec<_>>());
        frames
    }

    #[test]
    fn built_frames_parse_to_the_same() {
        for frame in frames() {
            let mut bytes = frame.build();
            let len = bytes.len();
            bytes.extend(b"next");
            assert_eq!(WebsocketFrame::parse(&bytes), Ok(Some((frame, len))));
        }
    }

    #[test]
    fn an_incomplete_frame_is_none() {
        for frame in frames().iter().filter(|frame| frame.payload.len() < 1000) {
            let bytes = frame.build();
            for end in 0..bytes.len() {
                assert_eq!(WebsocketFrame::parse(&bytes[..end]), Ok(None), "{frame:?}");
            }
        }
    }

    #[test]
    fn a_payload_above_the_limit_is_refused_before_it_arrives() {
        let parse = |bytes: &[u8]| WebsocketFrame::parse(bytes).map(|_| ());
        assert_eq!(parse(b"\x82\x7f\0\0\0\0\x01\0\0\0"), Ok(()));
        let beyond = parse(b"\x82\x7f\0\0\0\0\x01\0\0\x01");
        assert_eq!(beyond, Err(FrameError::TooLong));
        let all =
            WebsocketFrame::parse_within(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", u64::MAX);
        assert_eq!(all, Ok(None));
        let small = WebsocketFrame::parse_within(b"\x82\x05", 4);
        assert_eq!(small, Err(FrameError::TooLong));
    }

    #[test]
    fn rules_of_single_frames_are_enforced() {
        for (bytes, error) in [
            (&b"\x83\x00"[..], FrameError::Opcode),
            (b"\x8b\x00", FrameError::Opcode),
            (b"\x09\x00", FrameError::ControlFragmented),
            (b"\x89\x7e\x00\x7e", FrameError::ControlTooLong),
            (b"\x82\x7e\x00\x7d", FrameError::Length),
            (b"\x82\x7f\0\0\0\0\0\0\xff\xff", FrameError::Length),
            (b"\x82\x7f\x80\0\0\0\0\0\0\0", FrameError::Length),
        ] {
            assert_eq!(WebsocketFrame::parse(bytes), Err(error));
        }
    }

    #[test]
    fn reserved_bits_are_returned() {
        let (frame, _) = WebsocketFrame::parse(b"\xd1\x00").unwrap().unwrap();
        assert_eq!((frame.rsv1, frame.rsv2, frame.rsv3), (true, false, true));
        assert_eq!(frame.check(), Err(FrameError::Reserved));
        assert_eq!(frame.build(), b"\xd1\x00");
    }

    #[test]
    fn frames_can_be_checked_before_sending() {
        let text = |bytes: &[u8]| WebsocketFrame::new(Opcode::Text, bytes);
        for (frame, expected) in [
            (text(b"\xc3"), Err(FrameError::NotUtf8)),
            (text(b"\xc3").fragment(), Ok(())),
            (WebsocketFrame::continuation(b"\xa4"), Ok(())),
            (
                WebsocketFrame::ping([0; 126]),
                Err(FrameError::ControlTooLong),
            ),
            (
                WebsocketFrame::ping("").fragment(),
                Err(FrameError::ControlFragmented),
            ),
            (WebsocketFrame::close(1005, ""), Err(FrameError::CloseCode)),
            (WebsocketFrame::close(1000, ""), Ok(())),
        ] {
            assert_eq!(frame.check(), expected, "{frame:?}");
        }
    }

    #[test]
    fn a_close_has_a_code_and_a_reason() {
        let close = WebsocketFrame::close(4001, "späť");
        assert_eq!(close.close_code(), Some(4001));
        assert_eq!(close.close_reason(), Some("späť"));
        let text = WebsocketFrame::text("\u{3}\u{7f}");
        assert_eq!((text.close_code(), text.close_reason()), (None, None));
    }
}
