//! Messages out of the bytes of one side: fragments put together, control frames between them let through
//! (RFC 6455 §5.4), text checked as it comes (§8.1).
//!
//! No socket. What is allocated grows with what has arrived, never with what a head announces, and a message beyond the
//! limit is refused by the head that would make it so.

use super::frame::{Fault, FrameHead, HeadReader, Kind, Side, apply_mask, check_close};

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) data: Vec<u8>,
}

/// The messages of one side.
#[derive(Debug)]
pub(super) struct Assembly {
    head: HeadReader,
    /// The most that a message may have, in bytes.
    max_len: u64,
    /// The frame that is arriving.
    frame: Option<Frame>,
    /// The message that is not whole yet.
    begun: Option<Kind>,
    data: Vec<u8>,
    text: Utf8Check,
    control: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    head: FrameHead,
    /// Bytes that have come.
    at: u64,
}

impl Assembly {
    pub(super) fn new(sender: Side, max_len: u64) -> Self {
        Self {
            head: HeadReader::new(sender),
            max_len,
            frame: None,
            begun: None,
            data: Vec::new(),
            text: Utf8Check::default(),
            control: Vec::new(),
        }
    }

    /// Takes bytes off the front of `input`, up to the end of a message; `None`: all of it, and the message goes on.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Fault> {
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

    fn begin(&mut self, head: &FrameHead) -> Result<(), Fault> {
        match (head.kind, self.begun) {
            (Some(kind), _) if kind.is_control() => return Ok(()),
            (Some(_), Some(_)) => return Err(Fault::Interleaved),
            (None, None) => return Err(Fault::Continuation),
            (Some(kind), None) => self.begun = Some(kind),
            (None, Some(_)) => {}
        }
        match (self.data.len() as u64).checked_add(head.len) {
            Some(len) if len <= self.max_len => Ok(()),
            _ => Err(Fault::TooLong),
        }
    }

    /// Takes what the frame carries; gives its head when that is all there.
    fn take_content(&mut self, input: &mut &[u8]) -> Result<Option<FrameHead>, Fault> {
        let Some(Frame { head, at }) = &mut self.frame else {
            return Ok(None);
        };
        let left = usize::try_from(head.len - *at).unwrap_or(usize::MAX);
        let (content, rest) = input.split_at(left.min(input.len()));
        *input = rest;
        let is_control = head.kind.is_some_and(Kind::is_control);
        let into = match is_control {
            true => &mut self.control,
            false => &mut self.data,
        };
        let start = into.len();
        into.extend_from_slice(content);
        if let Some(mask) = head.mask {
            apply_mask(&mut into[start..], mask, *at);
        }
        if !is_control && self.begun == Some(Kind::Text) {
            self.text.push(&into[start..])?;
        }
        *at += content.len() as u64;
        Ok((*at == head.len).then_some(*head))
    }

    /// The message that ends with this frame.
    fn finish(&mut self, head: &FrameHead) -> Result<Option<Message>, Fault> {
        if let Some(kind) = head.kind.filter(|kind| kind.is_control()) {
            let data = std::mem::take(&mut self.control);
            if kind == Kind::Close {
                check_close(&data)?;
            }
            return Ok(Some(Message { kind, data }));
        }
        if !head.is_last {
            return Ok(None);
        }
        self.text.finish()?;
        let data = std::mem::take(&mut self.data);
        Ok(self.begun.take().map(|kind| Message { kind, data }))
    }
}

/// Whether all of it is UTF-8.
pub(super) fn is_utf8(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_ok()
}

/// UTF-8 that comes in pieces, which may end inside of a character.
#[derive(Debug, Default)]
struct Utf8Check {
    /// A character that is not whole yet.
    partial: [u8; 4],
    len: usize,
}

impl Utf8Check {
    fn push(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while self.len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else {
                return Ok(());
            };
            bytes = rest;
            self.partial[self.len] = byte;
            self.len += 1;
            match str::from_utf8(&self.partial[..self.len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return Err(Fault::NotUtf8),
                // Four bytes are a character or none.
                Err(_) => debug_assert!(self.len < self.partial.len()),
            }
        }
        let Err(error) = str::from_utf8(bytes) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(Fault::NotUtf8);
        }
        let begun = &bytes[error.valid_up_to()..];
        self.partial[..begun.len()].copy_from_slice(begun);
        self.len = begun.len();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        match std::mem::take(&mut self.len) {
            0 => Ok(()),
            _ => Err(Fault::NotUtf8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::write_head;
    use super::*;

    const FIN: u8 = 0x80;

    /// A frame of an upstream's.
    fn frame(first: u8, content: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_head(Kind::Binary, None, content.len(), &mut frame);
        frame[0] = first;
        [&frame, content].concat()
    }

    /// The same of a client's.
    fn masked(first: u8, content: &[u8]) -> Vec<u8> {
        let mask = *b"\x12\xf4\x00\x9a";
        let mut frame = Vec::new();
        write_head(Kind::Binary, Some(mask), content.len(), &mut frame);
        frame[0] = first;
        let start = frame.len();
        frame.extend_from_slice(content);
        apply_mask(&mut frame[start..], mask, 0);
        frame
    }

    type Outcome = (Vec<(Kind, Vec<u8>)>, Option<Fault>);

    /// The messages, and the fault that ends them, of bytes that come in these pieces.
    fn read<'b>(sender: Side, pieces: impl IntoIterator<Item = &'b [u8]>) -> Outcome {
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

    /// Whole, byte by byte, and at every split: always the same.
    #[track_caller]
    fn assert_reads(sender: Side, bytes: &[u8], expected: &Outcome) {
        assert_eq!(&read(sender, [bytes]), expected, "whole");
        assert_eq!(&read(sender, bytes.chunks(1)), expected, "byte by byte");
        for split in 0..bytes.len() {
            let (first, rest) = bytes.split_at(split);
            assert_eq!(&read(sender, [first, rest]), expected, "split at {split}");
        }
    }

    fn message(kind: Kind, data: impl AsRef<[u8]>) -> (Kind, Vec<u8>) {
        (kind, data.as_ref().to_vec())
    }

    #[test]
    fn control_frames_pass_between_fragments_at_every_split() {
        for (sender, frame) in [
            (Side::Upstream, frame as fn(u8, &[u8]) -> Vec<u8>),
            (Side::Client, masked),
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
                message(Kind::Ping, "ping"),
                message(Kind::Pong, ""),
                message(Kind::Text, "grüß e"),
                message(Kind::Binary, b"\xff\x00"),
                message(Kind::Text, ""),
                message(Kind::Close, b"\x03\xe8bye"),
            ];
            assert_reads(sender, &bytes, &(expected, None));
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_refused_behind_what_does_not() {
        let rows: &[(&[Vec<u8>], Fault)] = &[
            (&[frame(FIN, b"x")], Fault::Continuation),
            (&[frame(0, b"x")], Fault::Continuation),
            (&[frame(1, b"x"), frame(1, b"y")], Fault::Interleaved),
            (&[frame(2, b"x"), frame(FIN | 1, b"y")], Fault::Interleaved),
            (&[frame(FIN | 3, b"")], Fault::Opcode),
            (&[frame(FIN | 11, b"")], Fault::Opcode),
            (&[frame(FIN | 0x40 | 1, b"x")], Fault::Reserved),
            (&[frame(9, b"")], Fault::ControlFragmented),
            (&[frame(FIN | 9, &[0; 126])], Fault::ControlTooLong),
            (&[masked(FIN | 1, b"x")], Fault::Masked),
            (&[frame(FIN | 8, b"\x03")], Fault::CloseCode),
            (&[frame(FIN | 8, b"\x03\xed")], Fault::CloseCode),
            (&[frame(FIN | 8, b"\x03\xe8\xff")], Fault::NotUtf8),
            (&[frame(FIN | 1, b"\xff")], Fault::NotUtf8),
            (&[frame(FIN | 1, b"a\xc3")], Fault::NotUtf8),
            (&[frame(1, b"\xe2\x82"), frame(FIN, b"x")], Fault::NotUtf8),
            (&[frame(1, b"\xe2\x82"), frame(FIN, b"")], Fault::NotUtf8),
            (&[frame(FIN | 1, b"\xed\xa0\x80")], Fault::NotUtf8),
            (&[frame(FIN | 2, &[0; 1001])], Fault::TooLong),
            (
                &[frame(2, &[0; 600]), frame(0, b""), frame(0, &[0; 401])],
                Fault::TooLong,
            ),
        ];
        for (frames, fault) in rows {
            let bytes = [frame(FIN | 1, b"before"), frames.concat()].concat();
            let before = vec![message(Kind::Text, "before")];
            assert_reads(Side::Upstream, &bytes, &(before, Some(*fault)));
        }
    }

    #[test]
    fn bad_text_is_refused_before_its_end() {
        let mut assembly = Assembly::new(Side::Upstream, 1000);
        let mut bytes = &b"\x01\x7ea"[..2];
        assert_eq!(assembly.next(&mut bytes), Ok(None));
        let mut bytes = &b"\x01\xf4\x80\xff"[..];
        assert_eq!(assembly.next(&mut bytes), Err(Fault::NotUtf8));
    }

    #[test]
    fn a_message_of_just_the_limit_passes() {
        let bytes = [frame(2, &[7; 500]), frame(FIN, &[7; 500])].concat();
        let whole = vec![message(Kind::Binary, [7; 1000])];
        assert_eq!(read(Side::Upstream, [&bytes[..]]), (whole, None));
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        let mut assembly = Assembly::new(Side::Upstream, u64::MAX);
        let mut head = &b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xffab"[..];
        assert_eq!(assembly.next(&mut head), Ok(None));
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
