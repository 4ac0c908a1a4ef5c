//! Checks field blocks (HEADERS and their CONTINUATION frames) before `h2` sees them.
//!
//! `h2` does not say why a message is malformed, ends the whole connection for some violations, ignores misplaced
//! pseudo-fields, and truncates or refuses paths that are allowed in HTTP/1.1. So each block is read here first. A
//! well-formed one is passed on unchanged, in the buffer in which it arrived. To a malformed one, a field is added that
//! makes `h2` reset the stream, and the reason is stored for the error of the stream. In a path that `h2` does not
//! accept, the offending characters are replaced, without changing its length, because the dynamic tables on both sides
//! must stay the same; the original path is stored for the request.
//!
//! Invalid HPACK and unexpected frames are passed on unchanged: `h2` ends such a connection. From then on nothing is
//! checked, and no request must be accepted.
//!
//! One DATA frame is changed as well: the one that ends a request whose response has already begun. Some clients stop
//! sending then, and end the stream short of their Content-Length; `h2` would reset the stream for that, and the rest
//! of the response would be lost. So the frame is passed on without END_STREAM, and the request stays incomplete.

mod section;
mod stream_facts;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::rc::Rc;

use tokio::io::ReadBuf;

use super::frame::{self, FLAGS_AT, FrameHead, HEAD_LEN, MAX_FRAME_LEN, PREFACE_LEN, PeerRole};
use super::hpack::{BlockReader, Corrupt, Entry, FieldTable, Representation, write_string};
use section::{Section, replaced_name};
pub(super) use stream_facts::StreamFacts;

/// Frames that a block may have in addition to those that the longest head needs; `h2` accepts fewer.
const SPARE_FRAMES: usize = 16;

/// Streams whose response head has arrived, remembered to recognise trailers. If there are more, those that were
/// cancelled here are forgotten, because the upstream need not end them, and then the oldest.
const ANSWERED_KEPT: usize = 512;

/// The largest buffer for decoded strings that a connection keeps, in bytes.
const SCRATCH_KEPT: usize = 4096;

/// A field that makes `h2` reset the stream, and that enters no dynamic table: `connection: x`.
const MALFORMED: &[u8] = b"\x00\x0aconnection\x01x";

/// The field blocks that the peer of a connection sends.
#[derive(Debug)]
pub(super) struct FieldBlocks {
    peer: PeerRole,
    table: FieldTable,
    facts: Rc<StreamFacts>,
    /// Bytes before the next frame head.
    skip: usize,
    /// The highest stream that a client has opened.
    last_stream: u32,
    /// Streams on which a server has sent its final head, but not the end.
    answered: Vec<u32>,
    /// An incomplete block, or frames that follow a rewritten one.
    held: Vec<u8>,
    /// Bytes for `h2` that must be read before new ones.
    ready: Vec<u8>,
    ready_at: usize,
    /// The length of the longest block, including frame heads, in bytes.
    max_len: usize,
    max_frames: usize,
    scratch: Vec<u8>,
}

/// How many bytes are passed on unchanged.
enum Scanned {
    All,
    /// Up to here; then an incomplete frame begins.
    Incomplete(usize),
    /// Up to this range, which is replaced by other bytes.
    Rewritten(Range<usize>, Vec<u8>),
}

/// A complete block.
struct CheckedBlock {
    /// Its length, including frame heads, in bytes.
    len: usize,
    /// The frames that replace it, if it is rewritten.
    frames: Option<Vec<u8>>,
}

/// The CONTINUATION frames of a block.
struct Continuations<'b> {
    /// Their payloads.
    parts: Vec<&'b [u8]>,
    /// Where the last one ends, or HEADERS if there is none.
    end: usize,
}

/// A string of a block, and what replaces it.
type Edit = (Range<usize>, Vec<u8>);

impl FieldBlocks {
    /// `max_head_len` is the length of the longest head that is accepted, in bytes.
    pub(super) fn new(peer: PeerRole, max_head_len: usize, facts: Rc<StreamFacts>) -> Self {
        Self {
            peer,
            table: FieldTable::new(),
            facts,
            skip: match peer {
                PeerRole::Client => PREFACE_LEN,
                PeerRole::Server => 0,
            },
            last_stream: 0,
            answered: Vec::new(),
            held: Vec::new(),
            ready: Vec::new(),
            ready_at: 0,
            max_len: max_head_len.saturating_mul(2) + SPARE_FRAMES * MAX_FRAME_LEN,
            max_frames: max_head_len / MAX_FRAME_LEN * 2 + SPARE_FRAMES,
            scratch: Vec::new(),
        }
    }

    /// Processes received bytes; returns how many of them, from the beginning, are passed on in place. The others
    /// follow by [`read_into`](Self::read_into), at once or after more bytes are received.
    pub(super) fn receive(&mut self, bytes: &mut [u8]) -> usize {
        if self.held.is_empty() {
            match self.scan(bytes) {
                Scanned::All => return bytes.len(),
                Scanned::Incomplete(at) => {
                    self.held.extend_from_slice(&bytes[at..]);
                    return at;
                }
                Scanned::Rewritten(range, frames) => {
                    self.ready.extend_from_slice(&frames);
                    self.held.extend_from_slice(&bytes[range.end..]);
                    self.advance();
                    return range.start;
                }
            }
        }
        self.held.extend_from_slice(bytes);
        self.advance();
        0
    }

    /// Moves bytes that are ready for `h2` into `out`; `false`: there are none.
    pub(super) fn read_into(&mut self, out: &mut ReadBuf<'_>) -> bool {
        if self.ready_at == self.ready.len() {
            return false;
        }
        let rest = &self.ready[self.ready_at..];
        let len = rest.len().min(out.remaining());
        out.put_slice(&rest[..len]);
        self.ready_at += len;
        if self.ready_at == self.ready.len() {
            (self.ready, self.ready_at) = (Vec::new(), 0);
        }
        true
    }

    /// Processes what is held as far as possible.
    fn advance(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        let mut at = 0;
        loop {
            match self.scan(&mut held[at..]) {
                Scanned::All => return self.ready.extend_from_slice(&held[at..]),
                Scanned::Incomplete(0) if at == 0 => {
                    self.held = held;
                    return;
                }
                Scanned::Incomplete(len) => {
                    self.ready.extend_from_slice(&held[at..at + len]);
                    self.held = held[at + len..].to_vec();
                    return;
                }
                Scanned::Rewritten(range, frames) => {
                    self.ready.extend_from_slice(&held[at..at + range.start]);
                    self.ready.extend_from_slice(&frames);
                    at += range.end;
                }
            }
        }
    }

    /// Scans frames up to one that is not passed on unchanged.
    fn scan(&mut self, bytes: &mut [u8]) -> Scanned {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - at);
            at += skipped;
            self.skip -= skipped;
            if at == bytes.len() || self.facts.is_unchecked() {
                return Scanned::All;
            }
            let Some(head) = FrameHead::read(&bytes[at..]) else {
                return Scanned::Incomplete(at);
            };
            match head.kind {
                frame::HEADERS => match self.check_block(head, &bytes[at..]) {
                    Ok(None) => return Scanned::Incomplete(at),
                    Ok(Some(CheckedBlock { len, frames: None })) => at += len,
                    Ok(Some(CheckedBlock {
                        len,
                        frames: Some(frames),
                    })) => return Scanned::Rewritten(at..at + len, frames),
                    Err(Corrupt) => self.facts.is_unchecked.set(true),
                },
                frame::PUSH_PROMISE | frame::CONTINUATION => self.facts.is_unchecked.set(true),
                kind => {
                    let is_last = kind == frame::DATA && head.has(frame::END_STREAM);
                    if is_last && self.facts.hides_end(head.stream) {
                        bytes[at + FLAGS_AT] &= !frame::END_STREAM;
                    }
                    if is_last || kind == frame::RST_STREAM {
                        self.forget(head.stream);
                    }
                    self.skip = HEAD_LEN + head.len;
                }
            }
        }
    }

    /// Checks the block at the beginning of `bytes`. `None`: it is incomplete.
    fn check_block(
        &mut self,
        head: FrameHead,
        bytes: &[u8],
    ) -> Result<Option<CheckedBlock>, Corrupt> {
        if head.stream == 0 || head.len > MAX_FRAME_LEN {
            return Err(Corrupt);
        }
        let end = HEAD_LEN + head.len;
        let Some(payload) = bytes.get(HEAD_LEN..end) else {
            return Ok(None);
        };
        let Some(first) = fragment(head, payload)? else {
            // `h2` resets the stream of such a frame without reading the block.
            return Ok(Some(CheckedBlock {
                len: end,
                frames: None,
            }));
        };
        let Some(Continuations { parts, end }) = self.continuations(head, bytes)? else {
            return Ok(None);
        };
        // Joined only when it is complete, not whenever a piece arrives.
        let joined = match parts.is_empty() {
            true => Vec::new(),
            false => [&[first], &parts[..]].concat().concat(),
        };
        let block = match parts.is_empty() {
            true => first,
            false => &joined,
        };
        let rewritten = self.check(head, block)?;
        Ok(Some(CheckedBlock {
            len: end,
            frames: rewritten.map(|block| frames(head, &block)),
        }))
    }

    /// The payloads of the CONTINUATION frames after a HEADERS frame at the beginning of `bytes`, and where the last one
    /// ends. `None`: they are incomplete.
    fn continuations<'b>(
        &self,
        head: FrameHead,
        bytes: &'b [u8],
    ) -> Result<Option<Continuations<'b>>, Corrupt> {
        let mut parts = Vec::new();
        let mut end = HEAD_LEN + head.len;
        let mut is_over = head.has(frame::END_HEADERS);
        while !is_over {
            if end > self.max_len || parts.len() >= self.max_frames {
                return Err(Corrupt);
            }
            let Some(next) = FrameHead::read(&bytes[end..]) else {
                return Ok(None);
            };
            let is_next = next.kind == frame::CONTINUATION && next.stream == head.stream;
            if !is_next || next.len > MAX_FRAME_LEN {
                return Err(Corrupt);
            }
            let payload = end + HEAD_LEN..end + HEAD_LEN + next.len;
            end = payload.end;
            let Some(payload) = bytes.get(payload) else {
                return Ok(None);
            };
            parts.push(payload);
            is_over = next.has(frame::END_HEADERS);
        }
        Ok(Some(Continuations { parts, end }))
    }

    /// Checks a complete block; returns the one that replaces it, if it is rewritten.
    fn check(&mut self, head: FrameHead, block: &[u8]) -> Result<Option<Vec<u8>>, Corrupt> {
        let is_trailers = match self.peer {
            PeerRole::Client => head.stream <= self.last_stream,
            PeerRole::Server => self.answered.contains(&head.stream),
        };
        let mut section = Section::new(self.peer, is_trailers);
        let edits = self.read_fields(block, &mut section)?;
        section.end(head.has(frame::END_STREAM));
        if self.scratch.capacity() > SCRATCH_KEPT {
            self.scratch = Vec::new();
        }
        self.track_stream(head, is_trailers, section.is_interim);
        let is_malformed = section.error.is_some();
        if let Some(reason) = section.error {
            tracing::debug!(stream = head.stream, error = %reason, peer = ?self.peer, "malformed HTTP/2 message");
            self.facts.add_reason(head.stream, reason);
        } else if let Some(path) = section.path {
            self.facts.add_path(head.stream, path);
        }
        if edits.is_empty() && !is_malformed {
            return Ok(None);
        }
        let mut rewritten = rewritten(block, edits);
        if is_malformed {
            rewritten.extend_from_slice(MALFORMED);
        }
        Ok(Some(rewritten))
    }

    /// Reads the fields of a block into `section` and the table; returns the strings that are to be replaced.
    fn read_fields(&mut self, block: &[u8], section: &mut Section) -> Result<Vec<Edit>, Corrupt> {
        let mut edits = Vec::new();
        let mut reader = BlockReader::new(block);
        while let Some(representation) = reader.representation()? {
            match representation {
                Representation::Resize(len) => self.table.resize(len)?,
                Representation::Indexed(index) => {
                    let (name, value) = self.table.field(index)?;
                    section.add(name, value);
                }
                Representation::Literal { name, is_added } => {
                    let text = &mut self.scratch;
                    let (name, name_len) = match name {
                        0 => {
                            let start = reader.at();
                            reader.string(text)?;
                            let name = section.read_name(text);
                            if let Some(shown) = replaced_name(name, text) {
                                edits.push((start..reader.at(), shown));
                            }
                            (name, text.len())
                        }
                        index => self.table.name(index)?,
                    };
                    let start = reader.at();
                    reader.string(text)?;
                    let (value, shown) = section.read_value(name, text);
                    if let Some(shown) = shown {
                        edits.push((start..reader.at(), shown));
                    }
                    section.add(name, &value);
                    if is_added {
                        self.table.add(Entry {
                            name,
                            value,
                            name_len,
                            value_len: text.len(),
                        });
                    }
                }
            }
        }
        Ok(edits)
    }

    /// Records that a head or trailers have arrived on a stream.
    fn track_stream(&mut self, head: FrameHead, is_trailers: bool, is_interim: bool) {
        match self.peer {
            PeerRole::Client => self.last_stream = self.last_stream.max(head.stream),
            PeerRole::Server if head.has(frame::END_STREAM) => self.forget(head.stream),
            PeerRole::Server if !is_trailers && !is_interim => {
                self.make_room();
                self.answered.push(head.stream);
            }
            PeerRole::Server => {}
        }
    }

    /// Makes room for another stream in `answered`.
    fn make_room(&mut self) {
        if self.answered.len() < ANSWERED_KEPT {
            return;
        }
        let cancelled = std::mem::take(&mut *self.facts.cancelled.borrow_mut());
        self.answered.retain(|stream| !cancelled.contains(stream));
        if self.answered.len() >= ANSWERED_KEPT {
            self.answered.remove(0);
        }
    }

    fn forget(&mut self, stream: u32) {
        if let Some(index) = self.answered.iter().position(|of| *of == stream) {
            self.answered.remove(index);
        }
    }
}

/// The field block fragment of a HEADERS frame (RFC 9113 §6.2); `None` if the stream depends on itself.
fn fragment(head: FrameHead, payload: &[u8]) -> Result<Option<&[u8]>, Corrupt> {
    let mut range = 0..payload.len();
    if head.has(frame::PADDED) {
        let padding = usize::from(*payload.first().ok_or(Corrupt)?);
        range = 1..payload.len().checked_sub(padding).ok_or(Corrupt)?;
    }
    if head.has(frame::PRIORITY) {
        let dependency = payload.get(range.clone()).and_then(<[u8]>::first_chunk);
        let [a, b, c, d] = *dependency.ok_or(Corrupt)?;
        if u32::from_be_bytes([a & 0x7f, b, c, d]) == head.stream {
            return Ok(None);
        }
        range.start += 5;
    }
    payload.get(range).map(Some).ok_or(Corrupt)
}

/// A block with some of its strings replaced.
fn rewritten(block: &[u8], edits: Vec<Edit>) -> Vec<u8> {
    let mut rewritten = Vec::with_capacity(block.len() + 64);
    let mut at = 0;
    for (range, text) in edits {
        rewritten.extend_from_slice(&block[at..range.start]);
        write_string(&text, &mut rewritten);
        at = range.end;
    }
    rewritten.extend_from_slice(&block[at..]);
    rewritten
}

/// Splits a block into frames, without padding and priority.
fn frames(head: FrameHead, block: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + 2 * HEAD_LEN);
    let mut left = block;
    let mut kind = frame::HEADERS;
    loop {
        let (part, rest) = left.split_at(left.len().min(MAX_FRAME_LEN));
        left = rest;
        let mut flags = match kind {
            frame::HEADERS => head.flags & frame::END_STREAM,
            _ => 0,
        };
        if left.is_empty() {
            flags |= frame::END_HEADERS;
        }
        let head = FrameHead {
            len: part.len(),
            kind,
            flags,
            stream: head.stream,
        };
        head.write(&mut out);
        out.extend_from_slice(part);
        kind = frame::CONTINUATION;
        if left.is_empty() {
            return out;
        }
    }
}
