//! Framed and masked messages that wait to be written to one side.
//!
//! Small ones share a buffer and a write, large ones keep their memory.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use proxy_websocket::apply_mask;
use rustls::crypto::SecureRandom;

use super::frame::{Kind, write_head};
use crate::buffers;
use crate::side::Side;
use crate::transport::WriteHalf;

/// From this length on, in bytes, a message is not copied.
const LARGE: usize = 16 * 1024;
/// Room for the head of a frame, in bytes.
const HEAD_ROOM: usize = 16;
/// If more bytes than this wait, no further messages are read.
const MUCH: u64 = 64 * 1024;

/// The messages waiting for one side.
pub(super) struct Outgoing {
    /// The source of masks; `None` for messages to a client.
    random: Option<&'static dyn SecureRandom>,
    pieces: VecDeque<Vec<u8>>,
    /// The written part of the first piece.
    written: usize,
    /// Bytes queued and bytes written since the beginning.
    queued: u64,
    sent: u64,
    /// The part of `queued` that was caused by messages of this side.
    echoed: u64,
}

impl Outgoing {
    pub(super) fn new(to: Side, random: &'static dyn SecureRandom) -> Self {
        Self {
            random: (to == Side::Upstream).then_some(random),
            pieces: VecDeque::new(),
            written: 0,
            queued: 0,
            sent: 0,
            echoed: 0,
        }
    }

    /// Queues a message as one frame.
    ///
    /// # Errors
    /// The system provides no random numbers for its mask.
    pub(super) fn push(&mut self, kind: Kind, mut data: Vec<u8>) -> io::Result<()> {
        if data.len() < LARGE {
            return self.push_copy(kind, &data);
        }
        let mask = self.mask()?;
        if let Some(mask) = mask {
            apply_mask(&mut data, mask, 0);
        }
        let piece = self.piece_with_room(HEAD_ROOM);
        let before = piece.len();
        write_head(kind, mask, data.len(), piece);
        self.queued += (piece.len() - before + data.len()) as u64;
        self.pieces.push_back(data);
        Ok(())
    }

    /// Like [`push`](Self::push), for a borrowed message.
    pub(super) fn push_copy(&mut self, kind: Kind, data: &[u8]) -> io::Result<()> {
        if data.len() >= LARGE {
            return self.push(kind, data.to_vec());
        }
        let mask = self.mask()?;
        let piece = self.piece_with_room(HEAD_ROOM + data.len());
        let before = piece.len();
        write_head(kind, mask, data.len(), piece);
        let start = piece.len();
        piece.extend_from_slice(data);
        if let Some(mask) = mask {
            apply_mask(&mut piece[start..], mask, 0);
        }
        self.queued += (piece.len() - before) as u64;
        Ok(())
    }

    /// Marks the last queued message as the answer to a message of this side.
    pub(super) fn mark_echo(&mut self) {
        self.echoed = self.queued;
    }

    /// Whether so much waits that the other side is not read.
    pub(super) fn is_full(&self) -> bool {
        self.queued - self.sent >= MUCH
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether it [`is_full`](Self::is_full) because of this side's own messages.
    pub(super) fn is_full_of_echoes(&self) -> bool {
        self.is_full() && self.echoed > self.sent
    }

    /// Bytes queued since the beginning, some of which may have been dropped.
    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> u64 {
        let pieces = self.pieces.iter().map(|piece| piece.len() as u64);
        pieces.sum()
    }

    /// Bytes that have been written.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Ready once everything is written and flushed.
    pub(super) fn poll_write(
        &mut self,
        to: &mut WriteHalf<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(piece) = self.pieces.front() {
            let len = ready!(to.poll_write(cx, &piece[self.written..]))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += len;
            self.sent += len as u64;
            if self.written == piece.len() {
                self.written = 0;
                self.pieces.drain(..1).for_each(buffers::give_back);
            }
        }
        to.poll_flush(cx)
    }

    /// Drops everything, because nobody reads it.
    pub(super) fn clear(&mut self) {
        self.pieces.drain(..).for_each(buffers::give_back);
        self.written = 0;
        self.queued = self.sent;
    }

    /// Queues the head that accepts the WebSocket, before the first message.
    pub(super) fn push_head(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let piece = self.piece_with_room(HEAD_ROOM);
        let before = piece.len();
        write(piece);
        self.queued += (piece.len() - before) as u64;
    }

    /// The last piece, or a new one if that has less room.
    fn piece_with_room(&mut self, room: usize) -> &mut Vec<u8> {
        let has_room = |last: &Vec<u8>| last.capacity() - last.len() >= room;
        if !self.pieces.back().is_some_and(has_room) {
            self.pieces.push_back(buffers::small());
        }
        let last = self.pieces.len() - 1;
        &mut self.pieces[last]
    }

    fn mask(&self) -> io::Result<Option<[u8; 4]>> {
        let Some(random) = self.random else {
            return Ok(None);
        };
        let mut mask = [0; 4];
        random
            .fill(&mut mask)
            .map_err(|_| io::Error::other("no random numbers available"))?;
        Ok(Some(mask))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toward(side: Side) -> Outgoing {
        let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        Outgoing::new(side, random)
    }

    #[test]
    fn small_messages_share_a_buffer_and_large_ones_keep_theirs() {
        let mut outgoing = toward(Side::Client);
        for _ in 0..100 {
            outgoing
                .push(Kind::Text, b"small".to_vec())
                .expect("no mask is needed");
        }
        assert_eq!(outgoing.pieces.len(), 1);
        let large = vec![7; LARGE];
        let at = large.as_ptr();
        outgoing
            .push(Kind::Binary, large)
            .expect("no mask is needed");
        outgoing
            .push(Kind::Text, b"small".to_vec())
            .expect("no mask is needed");
        assert_eq!(outgoing.pieces.len(), 3);
        assert_eq!(outgoing.pieces[1].as_ptr(), at);
        let held: usize = outgoing.pieces.iter().map(Vec::len).sum();
        assert_eq!(outgoing.queued, held as u64);
    }

    #[test]
    fn only_frames_to_upstreams_are_masked() {
        for (side, second) in [(Side::Client, 5), (Side::Upstream, 0x85)] {
            let mut outgoing = toward(side);
            outgoing
                .push(Kind::Text, b"hello".to_vec())
                .expect("there is randomness");
            assert_eq!(outgoing.pieces[0][1], second);
            assert_eq!(outgoing.pieces[0].ends_with(b"hello"), side == Side::Client);
        }
    }

    #[test]
    fn echoes_fill_only_the_side_that_caused_them() {
        let mut outgoing = toward(Side::Client);
        outgoing
            .push(Kind::Binary, vec![0; MUCH as usize])
            .expect("no mask is needed");
        assert!(outgoing.is_full() && !outgoing.is_full_of_echoes());
        outgoing
            .push(Kind::Text, b"echo".to_vec())
            .expect("no mask is needed");
        outgoing.mark_echo();
        assert!(outgoing.is_full_of_echoes());
        outgoing.clear();
        assert!(!outgoing.is_full());
    }
}
