//! Blocks at every split, and what `h2` is shown in the place of those that are malformed.

use super::section::is_path_byte;
use super::stream_facts::PATHS_LEN_KEPT;
use super::*;
use crate::http2::message::MessageError;
use std::task::{Context, Waker};

/// What is passed on of the bytes, in order.
fn pass(blocks: &mut FieldBlocks, pieces: &[&[u8]]) -> Vec<u8> {
    let mut passed = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let len = blocks.receive(&mut piece);
        passed.extend_from_slice(&piece[..len]);
        let mut room = [0; 7];
        loop {
            let mut out = ReadBuf::new(&mut room);
            if !blocks.read_into(&mut out) {
                break;
            }
            passed.extend_from_slice(out.filled());
        }
    }
    passed
}

fn of_server() -> (FieldBlocks, Rc<StreamFacts>) {
    let facts = Rc::<StreamFacts>::default();
    (
        FieldBlocks::new(PeerRole::Server, 65536, Rc::clone(&facts)),
        facts,
    )
}

fn of_client() -> (FieldBlocks, Rc<StreamFacts>) {
    let facts = Rc::<StreamFacts>::default();
    let mut blocks = FieldBlocks::new(PeerRole::Client, 65536, Rc::clone(&facts));
    assert_eq!(
        blocks.receive(&mut b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        PREFACE_LEN
    );
    (blocks, facts)
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
fn well_formed_blocks_pass_unchanged_at_every_split() {
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
        let (mut blocks, facts) = of_client();
        let passed = pass(&mut blocks, &[&bytes[..cut], &bytes[cut..]]);
        assert!(passed == bytes, "{cut}");
        assert!(!facts.is_unchecked() && facts.reasons.borrow().is_empty());
    }
    let (mut blocks, _) = of_client();
    let single: Vec<_> = bytes.chunks(1).collect();
    assert!(pass(&mut blocks, &single) == bytes);
}

#[test]
fn paths_that_h2_does_not_accept_are_stored() {
    let (mut blocks, facts) = of_client();
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
        assert_eq!(facts.take_path(stream).as_deref(), Some(path.as_bytes()));
        assert_eq!(facts.take_path(stream), None);
    }
    assert!(!facts.is_unchecked());
}

#[test]
fn an_indexed_path_is_recognised_until_it_is_evicted() {
    let (mut blocks, facts) = of_client();
    pass(&mut blocks, &[&head(1, &request_block("/a#b", true))]);
    assert_eq!(facts.take_path(1).as_deref(), Some(&b"/a#b"[..]));
    // The path is the newest entry, then authority, scheme and method.
    let again = head(3, b"\xc1\xc0\xbf\xbe");
    assert_eq!(pass(&mut blocks, &[&again]), again);
    assert_eq!(facts.take_path(3).as_deref(), Some(&b"/a#b"[..]));
    let many: Vec<_> = (0..100)
        .map(|number| ("x-many", format!("{number:040}")))
        .collect();
    let many: Vec<_> = many
        .iter()
        .map(|(name, value)| (*name, &value[..]))
        .collect();
    let section = [&request_block("/", false)[..], &block(&many, true)].concat();
    pass(&mut blocks, &[&head(5, &section)]);
    assert_eq!(facts.take_path(5), None);
    // 40 entries of 32 + 6 + 40 bytes or more fill the table.
    let beyond = head(7, b"\x82\x87\x84\xf8");
    pass(&mut blocks, &[&beyond]);
    assert!(facts.is_unchecked());
}

#[test]
fn paths_of_streams_that_were_never_accepted_are_dropped() {
    let (mut blocks, facts) = of_client();
    for stream in [1, 3, 5] {
        pass(&mut blocks, &[&head(stream, &request_block("/#", false))]);
    }
    assert_eq!(facts.take_path(3).as_deref(), Some(&b"/#"[..]));
    assert_eq!(facts.paths.borrow().len(), 1);
    for stream in (7..9000).step_by(2) {
        pass(&mut blocks, &[&head(stream, &request_block("/#", false))]);
    }
    assert!(facts.is_unchecked());
}

#[test]
fn the_length_of_stored_paths_is_limited() {
    let (mut blocks, facts) = of_client();
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
    let kept = facts
        .paths
        .borrow()
        .iter()
        .map(|(_, path)| path.len())
        .sum();
    assert!(
        facts.is_unchecked() && (1..=PATHS_LEN_KEPT).contains(&kept),
        "{kept}"
    );
    assert_eq!(facts.paths_len.get(), kept);
    let last = facts.paths.borrow().back().map(|(stream, _)| *stream);
    assert!(facts.take_path(last.expect("a path")).is_some());
    assert_eq!(facts.paths_len.get(), 0);
}

#[test]
fn malformed_requests_are_changed_so_that_h2_resets_them() {
    let whole = request_block("/", false);
    for (fields, shown, reason) in [
        (
            vec![("connection", "close")],
            None,
            MessageError::ConnectionField,
        ),
        (
            vec![("keep-alive", "1")],
            None,
            MessageError::ConnectionField,
        ),
        (vec![("te", "gzip")], None, MessageError::TeInvalid),
        (
            vec![("X-Up", "1")],
            Some(("x-up", "1")),
            MessageError::NameUpperCase,
        ),
        (
            vec![("x y", "1")],
            Some(("xxy", "1")),
            MessageError::NameInvalid,
        ),
        (
            vec![("x", "a\r\nb")],
            Some(("x", "a__b")),
            MessageError::ValueInvalid,
        ),
        (vec![(":path", "/")], None, MessageError::PseudoRepeated),
        (
            vec![(":status", "200")],
            None,
            MessageError::PseudoOfResponse,
        ),
        (
            vec![(":odd", "1")],
            Some(("xodd", "1")),
            MessageError::PseudoUnknown,
        ),
    ] {
        let (mut blocks, facts) = of_client();
        let sent = head(1, &[&whole[..], &block(&fields, false)].concat());
        let shown = shown.map_or(fields, |shown| vec![shown]);
        let expected = [&whole[..], &block(&shown, false), MALFORMED].concat();
        assert_eq!(pass(&mut blocks, &[&sent]), head(1, &expected), "{reason}");
        assert_eq!(facts.reason(1), Some(reason));
    }
    let (mut blocks, facts) = of_client();
    let late = block(&[("x", "y"), (":method", "GET")], false);
    pass(&mut blocks, &[&head(1, &late)]);
    assert_eq!(facts.reason(1), Some(MessageError::PseudoLate));
    // The table goes on as the client has it, whatever `h2` was shown.
    let upper = block(&[("X-Up", "1")], true);
    pass(&mut blocks, &[&head(3, &[&whole[..], &upper].concat())]);
    pass(&mut blocks, &[&head(5, &[&whole[..], b"\xbe"].concat())]);
    assert_eq!((facts.reason(5), facts.is_unchecked()), (None, false));
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
            Some(MessageError::PseudoInTrailers),
        ),
        (0, [("x-sum", "1")], Some(MessageError::TrailersUnended)),
    ] {
        let (mut blocks, facts) = of_client();
        let trailers = framed(
            frame::HEADERS,
            frame::END_HEADERS | flags,
            1,
            &block(&fields, false),
        );
        pass(&mut blocks, &[&whole, &trailers]);
        assert_eq!(facts.reason(1), reason);
    }
}

#[test]
fn responses_are_distinguished_from_their_trailers() {
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
            Some(MessageError::PseudoInTrailers),
        ),
        (vec![framed(frame::DATA, end, 1, b"x")], None),
    ] {
        let (mut blocks, facts) = of_server();
        let frames = [&[interim.clone(), final_head.clone()][..], &rest].concat();
        let frames: Vec<_> = frames.iter().map(|frame| &frame[..]).collect();
        pass(&mut blocks, &frames);
        assert_eq!(facts.reason(1), reason);
        assert_eq!(blocks.answered, Vec::<u32>::new());
    }
    for (fields, reason) in [
        (vec![("x", "y")], MessageError::StatusMissing),
        (
            vec![(":status", "200"), (":path", "/")],
            MessageError::PseudoOfRequest,
        ),
    ] {
        let (mut blocks, facts) = of_server();
        pass(&mut blocks, &[&response(end, &fields)]);
        assert_eq!(facts.reason(1), Some(reason));
    }
}

#[test]
fn the_end_of_a_request_is_hidden_only_if_its_response_has_begun() {
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
        let (mut blocks, facts) = of_client();
        facts.add_answered(1);
        assert!(!facts.has_ended(1) && facts.poll_ended(1, &mut cx).is_pending());
        let passed = pass(&mut blocks, &[&sent[..cut], &sent[cut..]]);
        assert!(passed == shown, "{cut}");
        assert!(facts.has_ended(1) && facts.poll_ended(1, &mut cx).is_ready());
        assert!(!facts.has_ended(3) && facts.poll_ended(3, &mut cx).is_pending());
        facts.forget_answered(1);
        assert!(!facts.has_ended(1));
        assert!(pass(&mut blocks, &[&sent]) == sent);
    }
}

#[test]
fn a_long_response_keeps_its_trailers_while_others_are_cancelled() {
    let (mut blocks, facts) = of_server();
    let response = block(&[(":status", "200")], false);
    let begin = |stream| framed(frame::HEADERS, frame::END_HEADERS, stream, &response);
    pass(&mut blocks, &[&begin(1)]);
    for stream in (3..).step_by(2).take(5 * ANSWERED_KEPT) {
        facts.add_cancelled(stream);
        pass(&mut blocks, &[&begin(stream)]);
        assert!(blocks.answered.len() <= ANSWERED_KEPT);
    }
    let trailers = block(&[("grpc-status", "0")], false);
    assert_eq!(
        pass(&mut blocks, &[&head(1, &trailers)]),
        head(1, &trailers)
    );
    assert_eq!(facts.reason(1), None);
}

#[test]
fn invalid_frames_and_blocks_pass_unchecked() {
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
        let (mut blocks, facts) = of_client();
        let bytes = frames.concat();
        assert_eq!(pass(&mut blocks, &[&bytes]), bytes);
        assert!(facts.is_unchecked());
    }
}

#[test]
fn the_buffer_for_an_incomplete_block_is_limited() {
    let (mut blocks, facts) = of_client();
    let part = framed(frame::CONTINUATION, 0, 1, &[0; MAX_FRAME_LEN]);
    pass(&mut blocks, &[&framed(frame::HEADERS, 0, 1, b"\x82")]);
    let mut count = 0;
    while !facts.is_unchecked() {
        pass(&mut blocks, &[&part]);
        assert!(blocks.held.len() <= blocks.max_len + part.len());
        count += 1;
    }
    assert!(count < 30, "{count}");
    let (mut blocks, facts) = of_client();
    pass(&mut blocks, &[&framed(frame::HEADERS, 0, 1, b"\x82")]);
    let empty = framed(frame::CONTINUATION, 0, 1, b"");
    for _ in 0..1000 {
        pass(&mut blocks, &[&empty]);
    }
    assert!(facts.is_unchecked());
}
