//! Assembles messages from the bytes of one side: joins fragments, passes control frames between them (RFC 6455 §5.4),
//! checks text as it arrives (§8.1).
//!
//! No sockets. Memory grows with the bytes that have arrived, never with an announced length; a message over the limit
//! is refused by the frame head that would exceed it.

use crate::head::{FrameHead, HeadReader, Sender, apply_mask};
use crate::message::check_close;
use crate::{FrameError, MessageKind};

/// A complete message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its kind.
    pub kind: MessageKind,
    /// Its content; UTF-8 if it is text.
    pub data: Vec<u8>,
}

/// Parses the messages of one side. Extensions are not supported: reserved bits must be clear.
///
/// ```
/// # use proxy_websocket as websocket;
/// use websocket::{Assembly, Message, MessageKind, Sender};
///
/// let mut assembly = Assembly::new(Sender::Server, 1024);
/// let mut bytes = &b"\x01\x03hel\x89\x00\x80\x02lo\x82\x05an"[..];
/// let ping = Message { kind: MessageKind::Ping, data: vec![] };
/// let hello = Message { kind: MessageKind::Text, data: b"hello".into() };
/// assert_eq!(assembly.next(&mut bytes)?, Some(ping));
/// assert_eq!(assembly.next(&mut bytes)?, Some(hello));
/// assert_eq!(assembly.next(&mut bytes)?, None);
/// # Ok::<(), websocket::FrameError>(())
/// ```
#[derive(Debug)]
pub struct Assembly {
    head: HeadReader,
    /// The maximum length of a message, in bytes.
    max_len: u64,
    /// The frame being read.
    frame: Option<Frame>,
    /// The kind of the incomplete message.
    begun: Option<MessageKind>,
    data: Vec<u8>,
    text: Utf8Check,
    control: Vec<u8>,
    /// The error that every later call returns.
    failed: Option<FrameError>,
}

#[derive(Debug)]
struct Frame {
    head: FrameHead,
    /// The number of bytes read so far.
    at: u64,
}

impl Assembly {
    /// `sender` is the side that sends the messages; `max_len` is their maximum length, in bytes.
    pub fn new(sender: Sender, max_len: u64) -> Self {
        Self {
            head: HeadReader::of(sender),
            max_len,
            frame: None,
            begun: None,
            data: Vec::new(),
            text: Utf8Check::default(),
            control: Vec::new(),
            failed: None,
        }
    }

    /// Consumes bytes from the front of `input`, up to the end of a message; `None`: all of `input`, and the message is
    /// incomplete. Control messages are returned as they arrive, between the fragments of others.
    ///
    /// # Errors
    /// The sender violated the protocol, or a message exceeds the limit; every later call returns the same error.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Message>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let next = self.read(input);
        self.failed = next.as_ref().err().copied();
        next
    }

    /// Changes the maximum length, from the next frame on.
    pub fn set_max_len(&mut self, max_len: u64) {
        self.max_len = max_len;
    }

    /// The number of bytes of incomplete messages.
    pub fn pending_len(&self) -> usize {
        self.data.len() + self.control.len()
    }

    fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, FrameError> {
        loop {
            if self.frame.is_none() {
                let Some(head) = self.head.read(input)? else {
                    return Ok(None);
                };
                self.begin(&head)?;
                self.frame = Some(Frame { head, at: 0 });
            }
            let Some(head) = self.take_content(input)? else {
                return Ok(None);
            };
            self.frame = None;
            if let Some(message) = self.finish(&head)? {
                return Ok(Some(message));
            }
        }
    }

    fn begin(&mut self, head: &FrameHead) -> Result<(), FrameError> {
        match (head.opcode.kind(), self.begun) {
            (Some(kind), _) if kind.is_control() => return Ok(()),
            (Some(_), Some(_)) => return Err(FrameError::Interleaved),
            (None, None) => return Err(FrameError::Continuation),
            (Some(kind), None) => self.begun = Some(kind),
            (None, Some(_)) => {}
        }
        match (self.data.len() as u64).checked_add(head.len) {
            Some(len) if len <= self.max_len => Ok(()),
            _ => Err(FrameError::TooLong),
        }
    }

    /// Reads the payload of the frame; returns its head once it is complete.
    fn take_content(&mut self, input: &mut &[u8]) -> Result<Option<FrameHead>, FrameError> {
        let Some(Frame { head, at }) = &mut self.frame else {
            return Ok(None);
        };
        let left = usize::try_from(head.len - *at).unwrap_or(usize::MAX);
        let (content, rest) = input.split_at(left.min(input.len()));
        *input = rest;
        let is_control = head.opcode.is_control();
        let into = match is_control {
            true => &mut self.control,
            false => &mut self.data,
        };
        let start = into.len();
        into.extend_from_slice(content);
        if let Some(mask) = head.mask {
            apply_mask(&mut into[start..], mask, *at);
        }
        if !is_control && self.begun == Some(MessageKind::Text) {
            self.text.push(&into[start..])?;
        }
        *at += content.len() as u64;
        Ok((*at == head.len).then_some(*head))
    }

    /// The message that ends with this frame, if one does.
    fn finish(&mut self, head: &FrameHead) -> Result<Option<Message>, FrameError> {
        if let Some(kind) = head.opcode.kind().filter(|kind| kind.is_control()) {
            let data = std::mem::take(&mut self.control);
            if kind == MessageKind::Close {
                check_close(&data)?;
            }
            return Ok(Some(Message { kind, data }));
        }
        if !head.fin {
            return Ok(None);
        }
        self.text.finish()?;
        let data = std::mem::take(&mut self.data);
        Ok(self.begun.take().map(|kind| Message { kind, data }))
    }
}

/// Checks UTF-8 in pieces, which may end inside a character.
#[derive(Debug, Default)]
struct Utf8Check {
    /// An incomplete character.
    partial: [u8; 4],
    len: usize,
}

impl Utf8Check {
    fn push(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        while self.len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else {
                return Ok(());
            };
            bytes = rest;
            self.partial[self.len] = byte;
            self.len += 1;
            match std::str::from_utf8(&self.partial[..self.len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return Err(FrameError::NotUtf8),
                // Four bytes always complete a character or are invalid.
                Err(_) => debug_assert!(self.len < self.partial.len()),
            }
        }
        let Err(error) = std::str::from_utf8(bytes) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(FrameError::NotUtf8);
        }
        let begun = &bytes[error.valid_up_to()..];
        self.partial[..begun.len()].copy_from_slice(begun);
        self.len = begun.len();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), FrameError> {
        match std::mem::take(&mut self.len) {
            0 => Ok(()),
            _ => Err(FrameError::NotUtf8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Opcode;

    const FIN: u8 = 0x80;

    /// A frame from a server.
    fn frame(first: u8, content: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        FrameHead::whole(Opcode::Binary, None, content.len() as u64).write(&mut frame);
        frame[0] = first;
        [&frame, content].concat()
    }

    /// A frame from a client.
    fn masked(first: u8, content: &[u8]) -> Vec<u8> {
        let mask = *b"\x12\xf4\x00\x9a";
        let mut frame = Vec::new();
        FrameHead::whole(Opcode::Binary, Some(mask), content.len() as u64).write(&mut frame);
        frame[0] = first;
        let start = frame.len();
        frame.extend_from_slice(content);
        apply_mask(&mut frame[start..], mask, 0);
        frame
    }

    type ReadMessages = (Vec<(MessageKind, Vec<u8>)>, Option<FrameError>);

    /// The messages in these pieces, and the error that ends them.
    fn read<'b>(sender: Sender, pieces: impl IntoIterator<Item = &'b [u8]>) -> ReadMessages {
        let mut assembly = Assembly::new(sender, 1000);
        let mut messages = Vec::new();
        for mut piece in pieces {
            loop {
                match assembly.next(&mut piece) {
                    Ok(Some(Message { kind, data })) => messages.push((kind, data)),
                    Ok(None) => break,
                    Err(fault) => return (messages, Some(fault)),
                }
            }
            assert_eq!(piece, b"");
        }
        (messages, None)
    }

    /// Asserts the same result for the whole input, byte by byte, and for every split.
    #[track_caller]
    fn assert_reads(sender: Sender, bytes: &[u8], expected: &ReadMessages) {
        assert_eq!(&read(sender, [bytes]), expected, "whole");
        assert_eq!(&read(sender, bytes.chunks(1)), expected, "byte by byte");
        for split in 0..bytes.len() {
            let (first, rest) = bytes.split_at(split);
            assert_eq!(&read(sender, [first, rest]), expected, "split at {split}");
        }
    }

    fn message(kind: MessageKind, data: impl AsRef<[u8]>) -> (MessageKind, Vec<u8>) {
        (kind, data.as_ref().to_vec())
    }

    #[test]
    fn control_frames_pass_between_fragments_at_every_split() {
        for (sender, frame) in [
            (Sender::Server, frame as fn(u8, &[u8]) -> Vec<u8>),
            (Sender::Client, masked),
        ] {
            let bytes = [
                frame(1, "grü".as_bytes()),
                frame(FIN | 9, b"ping"),
                frame(0, b""),
                frame(0, b"\xc3"),
                frame(FIN | 10, b""),
                frame(FIN, b"\x9f e"),
                frame(FIN | 2, b"\xff\x00"),
                frame(FIN | 1, b""),
                frame(FIN | 8, b"\x03\xe8bye"),
            ]
            .concat();
            let expected = vec![
                message(MessageKind::Ping, "ping"),
                message(MessageKind::Pong, ""),
                message(MessageKind::Text, "grüß e"),
                message(MessageKind::Binary, b"\xff\x00"),
                message(MessageKind::Text, ""),
                message(MessageKind::Close, b"\x03\xe8bye"),
            ];
            assert_reads(sender, &bytes, &(expected, None));
        }
    }

    #[test]
    fn messages_before_a_violation_are_returned() {
        let rows: &[(&[Vec<u8>], FrameError)] = &[
            (&[frame(FIN, b"x")], FrameError::Continuation),
            (&[frame(0, b"x")], FrameError::Continuation),
            (&[frame(1, b"x"), frame(1, b"y")], FrameError::Interleaved),
            (
                &[frame(2, b"x"), frame(FIN | 1, b"y")],
                FrameError::Interleaved,
            ),
            (&[frame(FIN | 3, b"")], FrameError::Opcode),
            (&[frame(FIN | 11, b"")], FrameError::Opcode),
            (&[frame(FIN | 0x40 | 1, b"x")], FrameError::Reserved),
            (&[frame(9, b"")], FrameError::ControlFragmented),
            (&[frame(FIN | 9, &[0; 126])], FrameError::ControlTooLong),
            (&[masked(FIN | 1, b"x")], FrameError::Masked),
            (&[frame(FIN | 8, b"\x03")], FrameError::CloseCode),
            (&[frame(FIN | 8, b"\x03\xed")], FrameError::CloseCode),
            (&[frame(FIN | 8, b"\x03\xe8\xff")], FrameError::NotUtf8),
            (&[frame(FIN | 1, b"\xff")], FrameError::NotUtf8),
            (&[frame(FIN | 1, b"a\xc3")], FrameError::NotUtf8),
            (
                &[frame(1, b"\xe2\x82"), frame(FIN, b"x")],
                FrameError::NotUtf8,
            ),
            (
                &[frame(1, b"\xe2\x82"), frame(FIN, b"")],
                FrameError::NotUtf8,
            ),
            (&[frame(FIN | 1, b"\xed\xa0\x80")], FrameError::NotUtf8),
            (&[frame(FIN | 2, &[0; 1001])], FrameError::TooLong),
            (
                &[frame(2, &[0; 600]), frame(0, b""), frame(0, &[0; 401])],
                FrameError::TooLong,
            ),
        ];
        for (frames, fault) in rows {
            let bytes = [frame(FIN | 1, b"before"), frames.concat()].concat();
            let before = vec![message(MessageKind::Text, "before")];
            assert_reads(Sender::Server, &bytes, &(before, Some(*fault)));
        }
    }

    #[test]
    fn bad_text_is_refused_before_its_end() {
        let mut assembly = Assembly::new(Sender::Server, 1000);
        let mut bytes = &b"\x01\x7ea"[..2];
        assert_eq!(assembly.next(&mut bytes), Ok(None));
        let mut bytes = &b"\x01\xf4\x80\xff"[..];
        assert_eq!(assembly.next(&mut bytes), Err(FrameError::NotUtf8));
    }

    #[test]
    fn every_call_after_an_error_fails() {
        for fault in [&b"\x81\x04\xf4\x80\x80\xff"[..], b"\x81\x80", b"\x80\x00"] {
            let mut assembly = Assembly::new(Sender::Server, 1000);
            let expected = assembly.next(&mut &fault[..]);
            assert!(expected.is_err());
            for byte in 0..=u8::MAX {
                assert_eq!(assembly.next(&mut &[byte][..]), expected);
            }
        }
    }

    #[test]
    fn a_message_of_just_the_limit_passes() {
        let bytes = [frame(2, &[7; 500]), frame(FIN, &[7; 500])].concat();
        let whole = vec![message(MessageKind::Binary, [7; 1000])];
        assert_eq!(read(Sender::Server, [&bytes[..]]), (whole, None));
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        let mut assembly = Assembly::new(Sender::Server, u64::MAX);
        let mut head = &b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xffab"[..];
        assert_eq!(assembly.next(&mut head), Ok(None));
        assert_eq!(assembly.pending_len(), 2);
        assert!(assembly.data.capacity() < 100);
    }

    #[test]
    fn every_character_may_be_split_everywhere() {
        let text = "a\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}";
        let bytes = text.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut check = Utf8Check::default();
                for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    assert_eq!(check.push(piece), Ok(()));
                }
                assert_eq!(check.finish(), Ok(()));
            }
        }
    }
}
