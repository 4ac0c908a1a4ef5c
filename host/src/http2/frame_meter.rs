//! Counts frames, and detects peers that send too many frames without content.
//!
//! Frame heads are read as the bytes pass, before `h2` sees them: `h2` handles everything that has arrived in one poll,
//! and control frames, empty frames and frames of unknown types cost their sender nothing. Every peer has two limits:
//!
//! - A *turn*: frames count as steps (see [`Steps`]); after about a thousand small ones, other tasks of the worker run.
//! - An *allowance* for frames without content: [`BURST`] at once, then [`PER_SECOND`]. Content and requests in either
//!   direction add to it, because window updates and pings accompany them. A peer that exceeds it is abusive (RFC 9113
//!   §10.5).
//!
//! Envoy allows 10 window updates for each DATA frame sent, 100 PRIORITY frames for each stream and one empty DATA
//! frame; nginx allows eight bytes in nine to be overhead after the first MiB. The limits here are no stricter, except
//! for peers that send a thousand idle frames per second and nothing else.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::frame::{self, FrameHead, HEAD_LEN, PREFACE_LEN, PeerRole};
use crate::turn::Steps;

/// Frames without content that a peer may send at once.
const BURST: u32 = 10_000;
/// Frames without content that a peer may send each second, indefinitely.
const PER_SECOND: u32 = 1_000;
/// What a request adds, whoever sends it: for its PRIORITY, SETTINGS, resets and interim responses.
const PER_REQUEST: u32 = 32;
/// What a DATA frame that we send adds: for window updates of stream and connection, possibly for parts of it, and a
/// ping.
const PER_SENT_DATA: u32 = 10;
/// Bytes of sent content that add another frame.
const SENT_BYTES_PER_FRAME: u32 = 512;
/// What a DATA frame that we receive adds.
const PER_RECEIVED_DATA: u32 = 4;

/// A head costs as many steps, and one more for each [`HEAD_BYTES_PER_STEP`].
const STEPS_PER_HEAD: u32 = 8;
const HEAD_BYTES_PER_STEP: u32 = 64;

/// The frames of one connection.
#[derive(Debug)]
pub(super) struct FrameMeter {
    peer: PeerRole,
    received: HeadReader,
    sent: HeadReader,
    allowance: u32,
    refilled_at: Instant,
    steps: Steps,
    is_flooded: bool,
}

impl FrameMeter {
    pub(super) fn new(peer: PeerRole) -> Self {
        let (received, sent) = match peer {
            PeerRole::Client => (HeadReader::after(PREFACE_LEN), HeadReader::after(0)),
            PeerRole::Server => (HeadReader::after(0), HeadReader::after(PREFACE_LEN)),
        };
        Self {
            peer,
            received,
            sent,
            allowance: BURST,
            refilled_at: Instant::now(),
            steps: Steps::default(),
            is_flooded: false,
        }
    }

    /// Counts bytes that were received from the peer; returns their cost in steps.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) -> u32 {
        let mut cost = 0;
        while let Some(head) = self.received.next(&mut bytes) {
            cost += self.take(head);
        }
        self.steps.add(cost);
        cost
    }

    /// Counts bytes that were written to the peer.
    pub(super) fn send(&mut self, mut bytes: &[u8]) {
        while let Some(head) = self.sent.next(&mut bytes) {
            match (head.kind, self.peer) {
                (frame::DATA, _) if head.len > 0 => {
                    self.add(PER_SENT_DATA + head.len as u32 / SENT_BYTES_PER_FRAME);
                }
                (frame::HEADERS, PeerRole::Server) => self.add(PER_REQUEST),
                _ => {}
            }
        }
    }

    /// Whether all frames so far were written completely, so that another one may follow.
    pub(super) fn is_between_sent_frames(&self) -> bool {
        self.sent.is_between_frames()
    }

    /// As [`Steps::poll_pay`], for the received frames.
    pub(super) fn poll_pay(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.steps.poll_pay(cx)
    }

    /// Whether the peer has ever exceeded its allowance.
    pub(super) fn is_flooded(&self) -> bool {
        self.is_flooded
    }

    /// Counts a frame; returns its cost in steps.
    fn take(&mut self, head: FrameHead) -> u32 {
        match (head.kind, self.peer) {
            (frame::DATA, _) if head.len > 0 => self.add(PER_RECEIVED_DATA),
            (frame::DATA, _) if head.has(frame::END_STREAM) => {}
            (frame::HEADERS, PeerRole::Client) => self.add(PER_REQUEST),
            _ => self.spend(),
        }
        match head.kind {
            frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION => {
                STEPS_PER_HEAD + head.len as u32 / HEAD_BYTES_PER_STEP
            }
            _ => 1,
        }
    }

    fn add(&mut self, frames: u32) {
        self.allowance = self.allowance.saturating_add(frames).min(BURST);
    }

    fn spend(&mut self) {
        if self.allowance == 0 {
            self.refill(Instant::now());
        }
        match self.allowance.checked_sub(1) {
            Some(left) => self.allowance = left,
            None => self.is_flooded = true,
        }
    }

    /// Adds the allowance of the time that has passed. Called only when the allowance is used up, so that most
    /// connections never read the clock.
    fn refill(&mut self, now: Instant) {
        let passed = now
            .saturating_duration_since(self.refilled_at)
            .min(Duration::from_secs(60));
        let frames = passed.as_millis() * u128::from(PER_SECOND) / 1000;
        self.add(u32::try_from(frames).unwrap_or(BURST));
        if frames > 0 {
            self.refilled_at = now;
        }
    }
}

/// Reads frame heads from bytes that arrive in pieces.
#[derive(Debug)]
struct HeadReader {
    /// Bytes before the next head.
    skip: usize,
    head: [u8; HEAD_LEN],
    head_len: usize,
}

impl HeadReader {
    fn after(skip: usize) -> Self {
        Self {
            skip,
            head: [0; HEAD_LEN],
            head_len: 0,
        }
    }

    fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.head_len == 0
    }

    /// Consumes bytes up to the end of a head; `None`: all of them were consumed.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<FrameHead> {
        let skipped = self.skip.min(bytes.len());
        *bytes = &bytes[skipped..];
        self.skip -= skipped;
        let (part, rest) = bytes.split_at((HEAD_LEN - self.head_len).min(bytes.len()));
        *bytes = rest;
        self.head[self.head_len..][..part.len()].copy_from_slice(part);
        self.head_len += part.len();
        if self.head_len < HEAD_LEN {
            return None;
        }
        self.head_len = 0;
        let head = FrameHead::of(&self.head);
        self.skip = head.len;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
        let mut frame = (content.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        frame.extend_from_slice(content);
        frame
    }

    fn receive(meter: &mut FrameMeter, times: u32, frame: &[u8]) {
        for _ in 0..times {
            meter.receive(frame);
        }
    }

    fn of_server() -> FrameMeter {
        FrameMeter::new(PeerRole::Server)
    }

    #[test]
    fn heads_are_read_at_every_split() {
        let bytes = [
            vec![b'x'; PREFACE_LEN],
            frame(4, 0, b""),
            frame(0, 1, b"content"),
            frame(PING, 1, b"12345678"),
        ]
        .concat();
        let read = |pieces: Vec<&[u8]>| {
            let mut reader = HeadReader::after(PREFACE_LEN);
            let mut heads = Vec::new();
            for mut piece in pieces {
                while let Some(head) = reader.next(&mut piece) {
                    heads.push((head.len, head.kind, head.flags));
                }
                assert!(piece.is_empty());
            }
            assert!(reader.is_between_frames());
            heads
        };
        let expected = vec![(0, 4, 0), (7, 0, 1), (8, PING, 1)];
        assert_eq!(read(bytes.chunks(1).collect()), expected);
        for split in 0..bytes.len() {
            assert_eq!(read(vec![&bytes[..split], &bytes[split..]]), expected);
        }
    }

    #[test]
    fn frames_without_content_are_limited() {
        for idle in [
            frame(2, 0, b"12345"),
            frame(3, 0, b"1234"),
            frame(4, 0, b""),
            frame(4, 1, b""),
            frame(5, 4, b"1234"),
            frame(PING, 0, b"12345678"),
            frame(PING, 1, b"12345678"),
            frame(7, 0, b"12345678"),
            frame(WINDOW_UPDATE, 0, b"1234"),
            frame(frame::CONTINUATION, 0, b""),
            frame(0x77, 0, b""),
            frame(frame::DATA, 0, b""),
            // Interim responses.
            frame(frame::HEADERS, 4, b"1"),
        ] {
            let mut meter = of_server();
            receive(&mut meter, BURST, &idle);
            assert!(!meter.is_flooded(), "{idle:?}");
            // Some time has passed, and so has a second at most.
            receive(&mut meter, PER_SECOND + 1, &idle);
            assert!(meter.is_flooded(), "{idle:?}");
        }
    }

    #[test]
    fn window_updates_and_pings_for_content_are_allowed() {
        let mut meter = FrameMeter::new(PeerRole::Client);
        meter.receive(&[0; PREFACE_LEN]);
        let (message, update) = (
            frame(frame::DATA, 0, b"m"),
            frame(WINDOW_UPDATE, 0, b"1234"),
        );
        let ping = frame(PING, 0, b"12345678");
        for _ in 0..10 * BURST {
            meter.send(&message);
            meter.receive(&[&update[..], &update, &ping].concat());
        }
        // As much is received as each message was.
        for _ in 0..10 * BURST {
            meter.receive(&[&message[..], &ping].concat());
        }
        // A reader that gives window back for each KiB of a large frame.
        let large = frame(frame::DATA, 0, &[0; 16_384]);
        for _ in 0..BURST {
            meter.send(&large);
            receive(&mut meter, 32, &update);
        }
        assert!(!meter.is_flooded());
    }

    #[test]
    fn requests_may_be_prioritised() {
        let mut meter = FrameMeter::new(PeerRole::Client);
        meter.receive(&[0; PREFACE_LEN]);
        for _ in 0..BURST {
            meter.receive(&frame(frame::HEADERS, 5, b"request"));
            receive(&mut meter, PER_REQUEST, &frame(2, 0, b"12345"));
        }
        assert!(!meter.is_flooded());
    }

    #[test]
    fn the_allowance_grows_with_time() {
        let mut meter = of_server();
        meter.allowance = 0;
        meter.refill(meter.refilled_at + Duration::from_secs(2));
        assert_eq!(meter.allowance, 2 * PER_SECOND);
        meter.refill(meter.refilled_at + Duration::from_secs(3600));
        assert_eq!(meter.allowance, BURST);
    }

    #[test]
    fn frames_cost_steps_by_their_length() {
        let mut meter = of_server();
        assert_eq!(meter.receive(&frame(PING, 1, b"12345678")), 1);
        let head = frame(frame::HEADERS, 4, &[0; 4096]);
        assert_eq!(meter.receive(&head[..100]), 72);
        assert_eq!(meter.receive(&head[100..]), 0);
        assert_eq!(meter.receive(&frame(frame::DATA, 0, &[0; 4096])), 1);
    }

    #[test]
    fn another_frame_may_follow_complete_ones_only() {
        let mut meter = FrameMeter::new(PeerRole::Client);
        assert!(meter.is_between_sent_frames());
        let settings = frame(4, 0, b"123456");
        meter.send(&settings[..3]);
        assert!(!meter.is_between_sent_frames());
        meter.send(&settings[3..10]);
        assert!(!meter.is_between_sent_frames());
        meter.send(&settings[10..]);
        assert!(meter.is_between_sent_frames());
    }
}
