//! Field blocks (HEADERS and their CONTINUATION frames) on their way to `h2`, checked first.
//!
//! `h2` keeps to itself why a message is malformed, ends the whole connection for some of it, ignores pseudo-fields where
//! they may not stand, and cuts off or refuses paths that HTTP/1.1 requests may have. So each block is read here before
//! `h2` reads it. One that is well-formed goes on as it is, in the buffer that it came in. A malformed one goes on with a
//! field that `h2` takes for malformed, and the reason is kept for whoever is told of the stream's end. A path that `h2`
//! does not take goes on with other characters in the place of those, of the same length, since the dynamic tables on
//! both sides have to stay the same; the path itself is kept for whoever is given the request.
//!
//! What is no HPACK, or not the frames that there may be, goes on untouched: `h2` ends such a connection. From then on
//! nothing is checked, and no request is to be accepted.
//!
//! One DATA frame is changed, too: the one that ends the request of a client whose answer has begun. Clients may stop
//! there, and some then end the stream short of their Content-Length, for which `h2` would reset it and so take back the
//! rest of the answer. So the frame goes on without END_STREAM: to whoever reads it, a request that is not whole stays so.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::ReadBuf;

use super::frames::PeerRole;
use super::hpack::{
    BlockReader, Corrupt, Entry, FieldTable, Name, Representation, Value, write_string,
};
use super::message::Unfit;

/// The length of a frame's head, and what a client sends before its first frame, in bytes (RFC 9113 §4.1, §3.4).
const HEAD_LEN: usize = 9;
const PREFACE_LEN: usize = 24;
/// Where the flags stand in a frame's head.
const FLAGS_AT: usize = 4;
/// Longest frame that a peer may send, in bytes: the default, which this host does not change (§4.2).
const MAX_FRAME_LEN: usize = 16 * 1024;
/// Most frames of a block beside those that the longest head needs; `h2` takes fewer.
const SPARE_FRAMES: usize = 16;

/// Reasons that are kept, the newest.
const REASONS_KEPT: usize = 64;
/// Paths that are kept for requests that nobody has taken yet, and their length together in bytes; past either no request
/// is accepted.
const PATHS_KEPT: usize = 4096;
const PATHS_LEN_KEPT: usize = 1024 * 1024;
/// Streams of responses that are remembered for telling trailers from heads. Past it those are forgotten that were
/// cancelled here, since the upstream need not end them, and then the oldest.
const ANSWERED_KEPT: usize = 512;
/// Cancelled streams that are remembered for that, the newest.
const CANCELLED_KEPT: usize = 1024;

/// Room for decoded strings that a connection keeps, in bytes.
const SCRATCH_KEPT: usize = 4096;

/// A field that makes `h2` reset the stream, and enters no table: `connection: x`.
const MALFORMED: &[u8] = b"\x00\x0aconnection\x01x";

/// Types and flags of frames (§6).
mod frame {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const CONTINUATION: u8 = 9;
    pub(super) const END_STREAM: u8 = 0x1;
    pub(super) const END_HEADERS: u8 = 0x4;
    pub(super) const PADDED: u8 = 0x8;
    pub(super) const PRIORITY: u8 = 0x20;
}

/// What is known of blocks that `h2` was not shown as they were.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    reasons: RefCell<VecDeque<(u32, Unfit)>>,
    paths: RefCell<VecDeque<(u32, Rc<[u8]>)>>,
    paths_len: Cell<usize>,
    is_blind: Cell<bool>,
    /// Streams whose answer has begun before their request was whole; as many as there are channels for them.
    answered: RefCell<Vec<Answered>>,
    cancelled: RefCell<VecDeque<u32>>,
}

#[derive(Debug)]
struct Answered {
    stream: u32,
    has_ended: bool,
    /// Whoever waits for the end.
    waker: Option<Waker>,
}

impl Remarks {
    /// Why the stream's message is malformed, if it is.
    pub(super) fn reason(&self, stream: u32) -> Option<Unfit> {
        let reasons = self.reasons.borrow();
        let found = reasons.iter().rev().find(|(of, _)| *of == stream);
        found.map(|(_, reason)| *reason)
    }

    /// The path of a request, if it is another than `h2` says. Requests are asked about in the order of their streams.
    pub(super) fn take_path(&self, stream: u32) -> Option<Rc<[u8]>> {
        let mut paths = self.paths.borrow_mut();
        while paths.front().is_some_and(|(of, _)| *of <= stream) {
            let Some((of, path)) = paths.pop_front() else {
                break;
            };
            self.paths_len.set(self.paths_len.get() - path.len());
            // Otherwise the stream was reset before anybody took it.
            if of == stream {
                return Some(path);
            }
        }
        None
    }

    /// Blocks are not checked any more: the connection is at its end.
    pub(super) fn is_blind(&self) -> bool {
        self.is_blind.get()
    }

    /// A request to an upstream was given up before its response had ended.
    pub(super) fn add_cancelled(&self, stream: u32) {
        let mut cancelled = self.cancelled.borrow_mut();
        if cancelled.len() == CANCELLED_KEPT {
            cancelled.pop_front();
        }
        cancelled.push_back(stream);
    }

    /// The answer to a request begins that is not whole: from now on `h2` is not shown the end of the request's content.
    pub(super) fn add_answered(&self, stream: u32) {
        self.answered.borrow_mut().push(Answered {
            stream,
            has_ended: false,
            waker: None,
        });
    }

    /// Ends what [`add_answered`](Self::add_answered) has begun.
    pub(super) fn forget_answered(&self, stream: u32) {
        let mut answered = self.answered.borrow_mut();
        answered.retain(|answered| answered.stream != stream);
    }

    /// Whether such a request has ended without `h2` being shown it.
    pub(super) fn has_ended(&self, stream: u32) -> bool {
        let answered = self.answered.borrow();
        answered
            .iter()
            .any(|answered| answered.stream == stream && answered.has_ended)
    }

    /// Ready once such a request [`has_ended`](Self::has_ended). One may wait for each stream.
    pub(super) fn poll_ended(&self, stream: u32, cx: &mut Context<'_>) -> Poll<()> {
        let mut answered = self.answered.borrow_mut();
        match answered.iter_mut().find(|of| of.stream == stream) {
            Some(answered) if answered.has_ended => Poll::Ready(()),
            Some(answered) => {
                answered.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    /// Whether `h2` is not to be shown that a client's content ends here.
    fn hides_end(&self, stream: u32) -> bool {
        let mut answered = self.answered.borrow_mut();
        let Some(answered) = answered.iter_mut().find(|of| of.stream == stream) else {
            return false;
        };
        answered.has_ended = true;
        if let Some(waker) = answered.waker.take() {
            waker.wake();
        }
        true
    }

    fn add_reason(&self, stream: u32, reason: Unfit) {
        let mut reasons = self.reasons.borrow_mut();
        if reasons.len() == REASONS_KEPT {
            reasons.pop_front();
        }
        reasons.push_back((stream, reason));
    }

    fn add_path(&self, stream: u32, path: Rc<[u8]>) {
        let mut paths = self.paths.borrow_mut();
        let len = self.paths_len.get() + path.len();
        match paths.len() < PATHS_KEPT && len <= PATHS_LEN_KEPT {
            true => {
                self.paths_len.set(len);
                paths.push_back((stream, path));
            }
            false => self.is_blind.set(true),
        }
    }
}

/// The blocks of one connection's peer.
#[derive(Debug)]
pub(super) struct FieldBlocks {
    peer: PeerRole,
    table: FieldTable,
    remarks: Rc<Remarks>,
    /// Bytes before the next frame's head.
    skip: usize,
    /// The latest stream of a client.
    last_stream: u32,
    /// Streams that have their final head from a server, and not their end.
    answered: Vec<u32>,
    /// A block that has not come whole, and frames behind one.
    held: Vec<u8>,
    /// What goes on before anything else is read.
    ready: Vec<u8>,
    ready_at: usize,
    /// Longest block, with the heads of its frames, in bytes.
    max_len: usize,
    max_frames: usize,
    scratch: Vec<u8>,
}

/// How far bytes go on as they are.
enum Walked {
    All,
    /// Up to here; behind it a frame begins that has not come whole.
    Incomplete(usize),
    /// Other bytes go on in the place of these.
    Rewritten(Range<usize>, Vec<u8>),
}

/// A block that has come whole.
struct Taken {
    /// Its length with its frames, in bytes.
    len: usize,
    /// The frames that go on in its place, if others do.
    frames: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
struct FrameHead {
    len: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHead {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes.first_chunk::<HEAD_LEN>()?;
        Some(Self {
            len: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        })
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.len as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl FieldBlocks {
    /// `max_head_len` is the longest head that is taken, in bytes.
    pub(super) fn new(peer: PeerRole, max_head_len: usize, remarks: Rc<Remarks>) -> Self {
        Self {
            peer,
            table: FieldTable::new(),
            remarks,
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

    /// Takes in what was received; gives how many bytes at its beginning go on. The others come from
    /// [`give`](Self::give), at once or with what is received next.
    pub(super) fn receive(&mut self, bytes: &mut [u8]) -> usize {
        if self.held.is_empty() {
            match self.walk(bytes) {
                Walked::All => return bytes.len(),
                Walked::Incomplete(at) => {
                    self.held.extend_from_slice(&bytes[at..]);
                    return at;
                }
                Walked::Rewritten(range, frames) => {
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

    /// Gives what goes on now; `false`: there is nothing.
    pub(super) fn give(&mut self, out: &mut ReadBuf<'_>) -> bool {
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

    /// Lets what is held go on as far as possible.
    fn advance(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        let mut at = 0;
        loop {
            match self.walk(&mut held[at..]) {
                Walked::All => return self.ready.extend_from_slice(&held[at..]),
                Walked::Incomplete(0) if at == 0 => {
                    self.held = held;
                    return;
                }
                Walked::Incomplete(len) => {
                    self.ready.extend_from_slice(&held[at..at + len]);
                    self.held = held[at + len..].to_vec();
                    return;
                }
                Walked::Rewritten(range, frames) => {
                    self.ready.extend_from_slice(&held[at..at + range.start]);
                    self.ready.extend_from_slice(&frames);
                    at += range.end;
                }
            }
        }
    }

    /// Walks over frames, up to one that does not go on as it is.
    fn walk(&mut self, bytes: &mut [u8]) -> Walked {
        let mut at = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - at);
            at += skipped;
            self.skip -= skipped;
            if at == bytes.len() || self.remarks.is_blind() {
                return Walked::All;
            }
            let Some(head) = FrameHead::read(&bytes[at..]) else {
                return Walked::Incomplete(at);
            };
            match head.kind {
                frame::HEADERS => match self.take_block(head, &bytes[at..]) {
                    Ok(None) => return Walked::Incomplete(at),
                    Ok(Some(Taken { len, frames: None })) => at += len,
                    Ok(Some(Taken {
                        len,
                        frames: Some(frames),
                    })) => return Walked::Rewritten(at..at + len, frames),
                    Err(Corrupt) => self.remarks.is_blind.set(true),
                },
                frame::PUSH_PROMISE | frame::CONTINUATION => self.remarks.is_blind.set(true),
                kind => {
                    let is_last = kind == frame::DATA && head.has(frame::END_STREAM);
                    if is_last && self.remarks.hides_end(head.stream) {
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

    /// Checks the block that begins `bytes`. `None`: it has not come whole.
    fn take_block(&mut self, head: FrameHead, bytes: &[u8]) -> Result<Option<Taken>, Corrupt> {
        if head.stream == 0 || head.len > MAX_FRAME_LEN {
            return Err(Corrupt);
        }
        let mut end = HEAD_LEN + head.len;
        let Some(payload) = bytes.get(HEAD_LEN..end) else {
            return Ok(None);
        };
        let Some(first) = fragment(head, payload)? else {
            // `h2` resets the stream of such a frame without reading on.
            return Ok(Some(Taken {
                len: end,
                frames: None,
            }));
        };
        let mut parts = Vec::new();
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
        // Joined once it is whole, and not for each piece that comes of it.
        let joined = match parts.is_empty() {
            true => Vec::new(),
            false => [&[first], &parts[..]].concat().concat(),
        };
        let block = match parts.is_empty() {
            true => first,
            false => &joined,
        };
        let rewritten = self.check(head, block)?;
        Ok(Some(Taken {
            len: end,
            frames: rewritten.map(|block| frames(head, &block)),
        }))
    }

    /// Checks a whole block; gives another one if that is what `h2` has to see.
    fn check(&mut self, head: FrameHead, block: &[u8]) -> Result<Option<Vec<u8>>, Corrupt> {
        let is_end = head.has(frame::END_STREAM);
        let is_trailers = match self.peer {
            PeerRole::Client => head.stream <= self.last_stream,
            PeerRole::Server => self.answered.contains(&head.stream),
        };
        let mut section = Section::new(self.peer, is_trailers);
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
                            if let Some(shown) = shown_name(name, text) {
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
        section.end(is_end);
        if self.scratch.capacity() > SCRATCH_KEPT {
            self.scratch = Vec::new();
        }
        match self.peer {
            PeerRole::Client => self.last_stream = self.last_stream.max(head.stream),
            PeerRole::Server if is_end => self.forget(head.stream),
            PeerRole::Server if !is_trailers && !section.is_interim => {
                self.make_room();
                self.answered.push(head.stream);
            }
            PeerRole::Server => {}
        }
        let mut poison: &[u8] = b"";
        if let Some(reason) = section.unfit {
            tracing::debug!(stream = head.stream, error = %reason, peer = ?self.peer, "malformed HTTP/2 message");
            self.remarks.add_reason(head.stream, reason);
            poison = MALFORMED;
        } else if let Some(path) = section.path {
            self.remarks.add_path(head.stream, path);
        }
        if edits.is_empty() && poison.is_empty() {
            return Ok(None);
        }
        let mut rewritten = Vec::with_capacity(block.len() + 64);
        let mut at = 0;
        for (range, text) in edits {
            rewritten.extend_from_slice(&block[at..range.start]);
            write_string(&text, &mut rewritten);
            at = range.end;
        }
        rewritten.extend_from_slice(&block[at..]);
        rewritten.extend_from_slice(poison);
        Ok(Some(rewritten))
    }

    /// Makes room for another stream that is answered.
    fn make_room(&mut self) {
        if self.answered.len() < ANSWERED_KEPT {
            return;
        }
        let cancelled = std::mem::take(&mut *self.remarks.cancelled.borrow_mut());
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

/// The part of a HEADERS frame that is of a block (RFC 9113 §6.2); `None` if the stream depends on itself.
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

/// A block as frames, without padding and priority.
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

/// What has been seen of a field section.
struct Section {
    peer: PeerRole,
    is_trailers: bool,
    has_field: bool,
    /// One bit for each pseudo-field.
    pseudo: u8,
    is_interim: bool,
    path: Option<Rc<[u8]>>,
    /// The first reason why it is malformed.
    unfit: Option<Unfit>,
}

impl Section {
    fn new(peer: PeerRole, is_trailers: bool) -> Self {
        Self {
            peer,
            is_trailers,
            has_field: false,
            pseudo: 0,
            is_interim: false,
            path: None,
            unfit: None,
        }
    }

    fn refuse(&mut self, reason: Unfit) {
        self.unfit.get_or_insert(reason);
    }

    /// What a literal name means.
    fn read_name(&mut self, name: &[u8]) -> Name {
        if name.iter().any(u8::is_ascii_uppercase) {
            self.refuse(Unfit::NameUpperCase);
            return Name::of(&name.to_ascii_lowercase());
        }
        let name_of = Name::of(name);
        if name_of == Name::Other && !name.iter().all(|byte| is_name_byte(*byte)) {
            self.refuse(Unfit::NameInvalid);
        }
        name_of
    }

    /// What a literal value means, and what is shown to `h2` in its place.
    fn read_value(&mut self, name: Name, value: &[u8]) -> (Value, Option<Vec<u8>>) {
        let replaced = |is_taken: fn(u8) -> bool| {
            let shown = |&byte: &u8| if is_taken(byte) { byte } else { b'_' };
            value.iter().map(shown).collect()
        };
        match name {
            Name::Path if !value.iter().all(|byte| is_path_byte(*byte)) => {
                (Value::Path(value.into()), Some(replaced(is_path_byte)))
            }
            Name::Path => (Value::Any, None),
            _ if !value.iter().all(|byte| is_value_byte(*byte)) => {
                self.refuse(Unfit::ValueInvalid);
                (Value::Any, Some(replaced(is_value_byte)))
            }
            Name::Status if value.starts_with(b"1") => (Value::Interim, None),
            Name::Te if value == b"trailers" => (Value::Trailers, None),
            _ => (Value::Any, None),
        }
    }

    fn add(&mut self, name: Name, value: &Value) {
        if !name.is_pseudo() {
            self.has_field = true;
            match name {
                Name::Connection => self.refuse(Unfit::ConnectionField),
                Name::Te if *value != Value::Trailers => self.refuse(Unfit::TeInvalid),
                _ => {}
            }
            return;
        }
        let bit = 1 << name as u8;
        let is_of_response = name == Name::Status;
        if self.is_trailers {
            self.refuse(Unfit::PseudoInTrailers);
        } else if name == Name::UnknownPseudo {
            self.refuse(Unfit::PseudoUnknown);
        } else if is_of_response != (self.peer == PeerRole::Server) {
            self.refuse(match is_of_response {
                true => Unfit::PseudoOfResponse,
                false => Unfit::PseudoOfRequest,
            });
        } else if self.has_field {
            self.refuse(Unfit::PseudoLate);
        } else if self.pseudo & bit != 0 {
            self.refuse(Unfit::PseudoRepeated);
        }
        self.pseudo |= bit;
        match value {
            Value::Interim => self.is_interim = true,
            Value::Path(path) => self.path = Some(Rc::clone(path)),
            Value::Any | Value::Trailers => {}
        }
    }

    fn end(&mut self, ends_stream: bool) {
        if self.is_trailers && !ends_stream {
            self.refuse(Unfit::TrailersUnended);
        }
        let has_status = self.pseudo & 1 << Name::Status as u8 != 0;
        if self.peer == PeerRole::Server && !self.is_trailers && !has_status {
            self.refuse(Unfit::StatusMissing);
        }
    }
}

/// The name that `h2` is shown for one that would end the connection; of the same length.
fn shown_name(name_of: Name, name: &[u8]) -> Option<Vec<u8>> {
    let is_known = name_of.is_pseudo() && name_of != Name::UnknownPseudo;
    if is_known && !name.iter().any(u8::is_ascii_uppercase)
        || name.iter().all(|byte| is_name_byte(*byte))
    {
        return None;
    }
    let shown = |byte: &u8| match byte.to_ascii_lowercase() {
        b':' if is_known => b':',
        byte if is_name_byte(byte) => byte,
        _ => b'x',
    };
    Some(name.iter().map(shown).collect())
}

/// Whether a byte may stand in a field name (RFC 9113 §8.2.1).
fn is_name_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'a'..=b'z')
}

/// Whether a byte may stand in a field value.
fn is_value_byte(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

/// Whether `h2` takes a byte anywhere in a path and its query, and leaves it what it is.
fn is_path_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'_' | b'a'..=b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes on of the bytes, in the order in which it is given.
    fn pass(blocks: &mut FieldBlocks, pieces: &[&[u8]]) -> Vec<u8> {
        let mut passed = Vec::new();
        for piece in pieces {
            let mut piece = piece.to_vec();
            let len = blocks.receive(&mut piece);
            passed.extend_from_slice(&piece[..len]);
            let mut room = [0; 7];
            loop {
                let mut out = ReadBuf::new(&mut room);
                if !blocks.give(&mut out) {
                    break;
                }
                passed.extend_from_slice(out.filled());
            }
        }
        passed
    }

    fn of_server() -> (FieldBlocks, Rc<Remarks>) {
        let remarks = Rc::<Remarks>::default();
        (
            FieldBlocks::new(PeerRole::Server, 65536, Rc::clone(&remarks)),
            remarks,
        )
    }

    fn of_client() -> (FieldBlocks, Rc<Remarks>) {
        let remarks = Rc::<Remarks>::default();
        let mut blocks = FieldBlocks::new(PeerRole::Client, 65536, Rc::clone(&remarks));
        assert_eq!(
            blocks.receive(&mut b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
            PREFACE_LEN
        );
        (blocks, remarks)
    }

    fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let head = FrameHead {
            len: payload.len(),
            kind,
            flags,
            stream,
        };
        let mut out = Vec::new();
        head.write(&mut out);
        out.extend_from_slice(payload);
        out
    }

    /// A whole block; `added` literals enter the table.
    fn block(fields: &[(&str, &str)], added: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in fields {
            out.push(if added { 0x40 } else { 0 });
            write_string(name.as_bytes(), &mut out);
            write_string(value.as_bytes(), &mut out);
        }
        out
    }

    fn head(stream: u32, block: &[u8]) -> Vec<u8> {
        let flags = frame::END_HEADERS | frame::END_STREAM;
        framed(frame::HEADERS, flags, stream, block)
    }

    fn request(path: &str) -> Vec<(&'static str, String)> {
        [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a"),
            (":path", path),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec()
    }

    fn request_block(path: &str, added: bool) -> Vec<u8> {
        let fields = request(path);
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (*name, &value[..]))
            .collect();
        block(&fields, added)
    }

    #[test]
    fn what_is_well_formed_goes_on_as_it_is_at_every_split() {
        let flags = frame::END_HEADERS | frame::PADDED | frame::PRIORITY;
        let padded = [
            &[3, 0, 0, 0, 0, 9][..],
            &request_block("/a|b?{c}", true),
            b"xxx",
        ]
        .concat();
        let long = request_block(&"/long".repeat(100), false);
        let bytes = [
            framed(4, 0, 0, b"123456"),
            framed(frame::HEADERS, flags, 1, &padded),
            framed(frame::DATA, frame::END_STREAM, 1, &[b'x'; 40]),
            framed(frame::HEADERS, 0, 3, &long[..100]),
            framed(frame::CONTINUATION, 0, 3, b""),
            framed(frame::CONTINUATION, frame::END_HEADERS, 3, &long[100..]),
            head(5, b"\x82\x87\xbf\xbe"),
        ]
        .concat();
        for cut in 0..=bytes.len() {
            let (mut blocks, remarks) = of_client();
            let passed = pass(&mut blocks, &[&bytes[..cut], &bytes[cut..]]);
            assert!(passed == bytes, "{cut}");
            assert!(!remarks.is_blind() && remarks.reasons.borrow().is_empty());
        }
        let (mut blocks, _) = of_client();
        let single: Vec<_> = bytes.chunks(1).collect();
        assert!(pass(&mut blocks, &single) == bytes);
    }

    #[test]
    fn paths_that_h2_does_not_take_are_kept_beside_it() {
        let (mut blocks, remarks) = of_client();
        let odd = [
            "/a#b?c",
            "/a<b>",
            "/?q=\"x\"",
            "/a`b",
            "/a b",
            "/\u{fc}",
            "/a\u{7f}\r\nb",
        ];
        for (number, path) in odd.iter().enumerate() {
            let stream = 1 + 2 * number as u32;
            let passed = pass(&mut blocks, &[&head(stream, &request_block(path, false))]);
            let shown: String = path
                .bytes()
                .map(|byte| {
                    if is_path_byte(byte) {
                        byte as char
                    } else {
                        '_'
                    }
                })
                .collect();
            assert_eq!(shown.len(), path.len());
            assert_eq!(passed, head(stream, &request_block(&shown, false)));
            assert_eq!(remarks.take_path(stream).as_deref(), Some(path.as_bytes()));
            assert_eq!(remarks.take_path(stream), None);
        }
        assert!(!remarks.is_blind());
    }

    #[test]
    fn a_path_of_the_table_is_known_again_until_it_is_pushed_out() {
        let (mut blocks, remarks) = of_client();
        pass(&mut blocks, &[&head(1, &request_block("/a#b", true))]);
        assert_eq!(remarks.take_path(1).as_deref(), Some(&b"/a#b"[..]));
        // The path is the newest entry, then authority, scheme and method.
        let again = head(3, b"\xc1\xc0\xbf\xbe");
        assert_eq!(pass(&mut blocks, &[&again]), again);
        assert_eq!(remarks.take_path(3).as_deref(), Some(&b"/a#b"[..]));
        let many: Vec<_> = (0..100)
            .map(|number| ("x-many", format!("{number:040}")))
            .collect();
        let many: Vec<_> = many
            .iter()
            .map(|(name, value)| (*name, &value[..]))
            .collect();
        let section = [&request_block("/", false)[..], &block(&many, true)].concat();
        pass(&mut blocks, &[&head(5, &section)]);
        assert_eq!(remarks.take_path(5), None);
        // 40 entries of 32 + 6 + 40 bytes or more fill the table.
        let beyond = head(7, b"\x82\x87\x84\xf8");
        pass(&mut blocks, &[&beyond]);
        assert!(remarks.is_blind());
    }

    #[test]
    fn paths_of_streams_that_nobody_took_are_let_go() {
        let (mut blocks, remarks) = of_client();
        for stream in [1, 3, 5] {
            pass(&mut blocks, &[&head(stream, &request_block("/#", false))]);
        }
        assert_eq!(remarks.take_path(3).as_deref(), Some(&b"/#"[..]));
        assert_eq!(remarks.paths.borrow().len(), 1);
        for stream in (7..9000).step_by(2) {
            pass(&mut blocks, &[&head(stream, &request_block("/#", false))]);
        }
        assert!(remarks.is_blind());
    }

    #[test]
    fn the_length_of_paths_that_nobody_takes_is_bounded() {
        let (mut blocks, remarks) = of_client();
        let path = format!("/#{}", "x".repeat(40_000));
        for stream in (1..).step_by(2).take(100) {
            let block = request_block(&path, false);
            let (first, rest) = block.split_at(MAX_FRAME_LEN);
            let (second, third) = rest.split_at(MAX_FRAME_LEN);
            pass(
                &mut blocks,
                &[
                    &framed(frame::HEADERS, frame::END_STREAM, stream, first),
                    &framed(frame::CONTINUATION, 0, stream, second),
                    &framed(frame::CONTINUATION, frame::END_HEADERS, stream, third),
                ],
            );
        }
        let kept = remarks
            .paths
            .borrow()
            .iter()
            .map(|(_, path)| path.len())
            .sum();
        assert!(
            remarks.is_blind() && (1..=PATHS_LEN_KEPT).contains(&kept),
            "{kept}"
        );
        assert_eq!(remarks.paths_len.get(), kept);
        let last = remarks.paths.borrow().back().map(|(stream, _)| *stream);
        assert!(remarks.take_path(last.expect("a path")).is_some());
        assert_eq!(remarks.paths_len.get(), 0);
    }

    #[test]
    fn malformed_requests_go_on_so_that_h2_resets_them() {
        let whole = request_block("/", false);
        for (fields, shown, reason) in [
            (vec![("connection", "close")], None, Unfit::ConnectionField),
            (vec![("keep-alive", "1")], None, Unfit::ConnectionField),
            (vec![("te", "gzip")], None, Unfit::TeInvalid),
            (
                vec![("X-Up", "1")],
                Some(("x-up", "1")),
                Unfit::NameUpperCase,
            ),
            (vec![("x y", "1")], Some(("xxy", "1")), Unfit::NameInvalid),
            (
                vec![("x", "a\r\nb")],
                Some(("x", "a__b")),
                Unfit::ValueInvalid,
            ),
            (vec![(":path", "/")], None, Unfit::PseudoRepeated),
            (vec![(":status", "200")], None, Unfit::PseudoOfResponse),
            (
                vec![(":odd", "1")],
                Some(("xodd", "1")),
                Unfit::PseudoUnknown,
            ),
        ] {
            let (mut blocks, remarks) = of_client();
            let sent = head(1, &[&whole[..], &block(&fields, false)].concat());
            let shown = shown.map_or(fields, |shown| vec![shown]);
            let expected = [&whole[..], &block(&shown, false), MALFORMED].concat();
            assert_eq!(pass(&mut blocks, &[&sent]), head(1, &expected), "{reason}");
            assert_eq!(remarks.reason(1), Some(reason));
        }
        let (mut blocks, remarks) = of_client();
        let late = block(&[("x", "y"), (":method", "GET")], false);
        pass(&mut blocks, &[&head(1, &late)]);
        assert_eq!(remarks.reason(1), Some(Unfit::PseudoLate));
        // The table goes on as the client has it, whatever `h2` was shown.
        let upper = block(&[("X-Up", "1")], true);
        pass(&mut blocks, &[&head(3, &[&whole[..], &upper].concat())]);
        pass(&mut blocks, &[&head(5, &[&whole[..], b"\xbe"].concat())]);
        assert_eq!((remarks.reason(5), remarks.is_blind()), (None, false));
    }

    #[test]
    fn trailers_have_no_pseudo_fields_and_end_the_stream() {
        let whole = framed(
            frame::HEADERS,
            frame::END_HEADERS,
            1,
            &request_block("/", false),
        );
        for (flags, fields, reason) in [
            (frame::END_STREAM, [("x-sum", "1")], None),
            (
                frame::END_STREAM,
                [(":path", "/")],
                Some(Unfit::PseudoInTrailers),
            ),
            (0, [("x-sum", "1")], Some(Unfit::TrailersUnended)),
        ] {
            let (mut blocks, remarks) = of_client();
            let trailers = framed(
                frame::HEADERS,
                frame::END_HEADERS | flags,
                1,
                &block(&fields, false),
            );
            pass(&mut blocks, &[&whole, &trailers]);
            assert_eq!(remarks.reason(1), reason);
        }
    }

    #[test]
    fn responses_are_told_from_their_trailers() {
        let response = |flags, fields: &[(&str, &str)]| {
            framed(
                frame::HEADERS,
                frame::END_HEADERS | flags,
                1,
                &block(fields, false),
            )
        };
        let interim = response(0, &[(":status", "103"), ("link", "a")]);
        let final_head = response(0, &[(":status", "200")]);
        let end = frame::END_STREAM;
        for (rest, reason) in [
            (vec![response(end, &[("x", "y")])], None),
            (
                vec![response(end, &[(":status", "200")])],
                Some(Unfit::PseudoInTrailers),
            ),
            (vec![framed(frame::DATA, end, 1, b"x")], None),
        ] {
            let (mut blocks, remarks) = of_server();
            let frames = [&[interim.clone(), final_head.clone()][..], &rest].concat();
            let frames: Vec<_> = frames.iter().map(|frame| &frame[..]).collect();
            pass(&mut blocks, &frames);
            assert_eq!(remarks.reason(1), reason);
            assert_eq!(blocks.answered, Vec::<u32>::new());
        }
        for (fields, reason) in [
            (vec![("x", "y")], Unfit::StatusMissing),
            (
                vec![(":status", "200"), (":path", "/")],
                Unfit::PseudoOfRequest,
            ),
        ] {
            let (mut blocks, remarks) = of_server();
            pass(&mut blocks, &[&response(end, &fields)]);
            assert_eq!(remarks.reason(1), Some(reason));
        }
    }

    #[test]
    fn the_end_of_content_is_hidden_where_the_answer_has_begun_and_nowhere_else() {
        let padded = frame::END_STREAM | frame::PADDED;
        let sent = [
            framed(frame::DATA, 0, 1, b"a"),
            framed(frame::DATA, padded, 1, b"\x01bx"),
            framed(frame::DATA, frame::END_STREAM, 3, b"c"),
            framed(frame::RST_STREAM, frame::END_STREAM, 1, &[0; 4]),
        ]
        .concat();
        let shown = [
            framed(frame::DATA, 0, 1, b"a"),
            framed(frame::DATA, frame::PADDED, 1, b"\x01bx"),
            framed(frame::DATA, frame::END_STREAM, 3, b"c"),
            framed(frame::RST_STREAM, frame::END_STREAM, 1, &[0; 4]),
        ]
        .concat();
        let mut cx = Context::from_waker(Waker::noop());
        for cut in 0..=sent.len() {
            let (mut blocks, remarks) = of_client();
            remarks.add_answered(1);
            assert!(!remarks.has_ended(1) && remarks.poll_ended(1, &mut cx).is_pending());
            let passed = pass(&mut blocks, &[&sent[..cut], &sent[cut..]]);
            assert!(passed == shown, "{cut}");
            assert!(remarks.has_ended(1) && remarks.poll_ended(1, &mut cx).is_ready());
            assert!(!remarks.has_ended(3) && remarks.poll_ended(3, &mut cx).is_pending());
            remarks.forget_answered(1);
            assert!(!remarks.has_ended(1));
            assert!(pass(&mut blocks, &[&sent]) == sent);
        }
    }

    #[test]
    fn a_long_response_keeps_its_trailers_whatever_was_cancelled_beside_it() {
        let (mut blocks, remarks) = of_server();
        let response = block(&[(":status", "200")], false);
        let begin = |stream| framed(frame::HEADERS, frame::END_HEADERS, stream, &response);
        pass(&mut blocks, &[&begin(1)]);
        for stream in (3..).step_by(2).take(5 * ANSWERED_KEPT) {
            remarks.add_cancelled(stream);
            pass(&mut blocks, &[&begin(stream)]);
            assert!(blocks.answered.len() <= ANSWERED_KEPT);
        }
        let trailers = block(&[("grpc-status", "0")], false);
        assert_eq!(
            pass(&mut blocks, &[&head(1, &trailers)]),
            head(1, &trailers)
        );
        assert_eq!(remarks.reason(1), None);
    }

    #[test]
    fn what_is_no_block_goes_on_unseen() {
        let whole = request_block("/#", false);
        for frames in [
            vec![head(0, &whole)],
            vec![head(1, b"\xff")],
            vec![head(1, b"\xbe")],
            vec![framed(frame::CONTINUATION, frame::END_HEADERS, 1, &whole)],
            vec![framed(frame::PUSH_PROMISE, frame::END_HEADERS, 1, &whole)],
            vec![
                framed(frame::HEADERS, 0, 1, &whole),
                framed(frame::DATA, 0, 1, b""),
            ],
            vec![framed(
                frame::HEADERS,
                frame::END_HEADERS | frame::PADDED,
                1,
                b"\x09",
            )],
        ] {
            let (mut blocks, remarks) = of_client();
            let bytes = frames.concat();
            assert_eq!(pass(&mut blocks, &[&bytes]), bytes);
            assert!(remarks.is_blind());
        }
    }

    #[test]
    fn what_is_held_of_a_block_is_bounded() {
        let (mut blocks, remarks) = of_client();
        let part = framed(frame::CONTINUATION, 0, 1, &[0; MAX_FRAME_LEN]);
        pass(&mut blocks, &[&framed(frame::HEADERS, 0, 1, b"\x82")]);
        let mut count = 0;
        while !remarks.is_blind() {
            pass(&mut blocks, &[&part]);
            assert!(blocks.held.len() <= blocks.max_len + part.len());
            count += 1;
        }
        assert!(count < 30, "{count}");
        let (mut blocks, remarks) = of_client();
        pass(&mut blocks, &[&framed(frame::HEADERS, 0, 1, b"\x82")]);
        let empty = framed(frame::CONTINUATION, 0, 1, b"");
        for _ in 0..1000 {
            pass(&mut blocks, &[&empty]);
        }
        assert!(remarks.is_blind());
    }
}
