//! Protocol errors: the sender gets a Close with the reason, the other side one with 1001, and both connections close.

use super::frames::{closed, expect, head};
use super::{BINARY, CLOSE, FIN, PING, TEXT, frame, frames_at, have_sent, masked, obedient, open};
use super::{sockets, wait_for_frame};
use crate::support::{End, Origin, Proxy};

/// A proxy with a message limit of 1000 bytes.
fn strict() -> Proxy {
    sockets()
        .config("[limits]\nmax_body_buffer = 1000\n")
        .start()
}

/// Invalid input, built with a function that encodes a frame, and the close code that its sender gets.
fn faults(frame: fn(u8, &[u8]) -> Vec<u8>) -> Vec<(&'static str, Vec<u8>, u16)> {
    let announced = |len: u64| {
        let mut bytes = head(FIN | BINARY, len);
        bytes[1] |= frame(FIN, b"")[1];
        bytes.extend([0; 4]);
        bytes
    };
    vec![
        ("a reserved bit", frame(FIN | 0x10 | TEXT, b"x"), 1002),
        ("compressed", frame(FIN | 0x40 | TEXT, b"x"), 1002),
        ("an unknown opcode", frame(FIN | 3, b"x"), 1002),
        ("an unknown control opcode", frame(FIN | 11, b""), 1002),
        ("a fragmented Ping", frame(PING, b""), 1002),
        ("a long Ping", frame(FIN | PING, &[0; 126]), 1002),
        ("a continuation of nothing", frame(FIN, b"x"), 1002),
        (
            "a message in a message",
            [frame(TEXT, b"x"), frame(FIN | BINARY, b"y")].concat(),
            1002,
        ),
        (
            "a length that is too long for it",
            [&[FIN | BINARY, frame(FIN, b"")[1] | 126, 0, 5][..], &[0; 9]].concat(),
            1002,
        ),
        ("half a code", frame(FIN | CLOSE, b"\x03"), 1002),
        (
            "a code that is not for sending",
            frame(FIN | CLOSE, &closed(1005, "")),
            1002,
        ),
        (
            "a code of nobody's",
            frame(FIN | CLOSE, &closed(2999, "")),
            1002,
        ),
        (
            "a reason that is no text",
            frame(FIN | CLOSE, b"\x03\xe8\xff"),
            1007,
        ),
        ("text that is none", frame(FIN | TEXT, b"a\xff"), 1007),
        ("half a character", frame(FIN | TEXT, b"a\xc3"), 1007),
        (
            "a broken character over fragments",
            [frame(TEXT, b"\xe2\x82"), frame(0, b"x")].concat(),
            1007,
        ),
        ("a surrogate", frame(TEXT, b"\xed\xa0\x80"), 1007),
        ("a long message", announced(1001), 1009),
        ("a message without end", announced(u64::MAX >> 1), 1009),
        (
            "a long message of short fragments",
            [frame(BINARY, &[0; 999]), frame(0, b"a"), frame(FIN, b"b")].concat(),
            1009,
        ),
    ]
}

#[test]
fn clients_are_told_what_they_broke() {
    let proxy = strict();
    let mut faults = faults(|first, data| masked(first, data));
    faults.push(("no mask", frame(FIN | TEXT, "x"), 1002));
    for (what, bytes, code) in faults {
        let origin = obedient();
        let mut client = open(&proxy, &origin);
        client.send([masked(FIN | TEXT, what), bytes].concat());
        client.try_send(masked(FIN | TEXT, "dropped"));
        wait_for_frame(&origin, FIN | CLOSE, &closed(1001, ""));
        // The origin's answer to the text may or may not arrive first.
        let end = client.read_to_end();
        assert_eq!(end, End::Closed, "{what}");
        let close = frame(FIN | CLOSE, closed(code, ""));
        assert!(
            client.rest().ends_with(&close),
            "{what}: {}",
            client.rest().escape_ascii()
        );
        assert_eq!(frames_at(&origin).len(), 2, "{what}");
        client.finish();
        origin.wait_for_end();
    }
}

#[test]
fn upstreams_are_told_what_they_broke() {
    let proxy = strict();
    let mut faults = faults(|first, data| frame(first, data));
    faults.push(("a mask", masked(FIN | TEXT, "x"), 1002));
    for (what, bytes, code) in faults {
        let origin = Origin::serve(move |peer| {
            peer.head();
            peer.send(super::SWITCH);
            peer.send([frame(FIN | TEXT, what), bytes.clone(), vec![0; 100]].concat());
            peer.park();
        });
        let mut client = open(&proxy, &origin);
        expect(&mut client, FIN | TEXT, what.to_uppercase());
        expect(&mut client, FIN | CLOSE, closed(1001, ""));
        wait_for_frame(&origin, FIN | CLOSE, &closed(code, ""));
        assert_eq!(client.read_to_end(), End::Closed, "{what}");
        assert_eq!(client.rest(), b"", "{what}");
        assert_eq!(frames_at(&origin).len(), 1, "{what}");
    }
}

#[test]
fn a_message_of_just_the_limit_passes() {
    let (origin, proxy) = (obedient(), strict());
    let mut client = open(&proxy, &origin);
    client.send([masked(TEXT, "a".repeat(500)), masked(FIN, "b".repeat(500))].concat());
    let whole = format!("{}{}", "A".repeat(500), "B".repeat(500));
    expect(&mut client, FIN | TEXT, whole);
}

#[test]
fn who_broke_what_is_in_the_log() {
    let (origin, proxy) = (obedient(), strict());
    let mut client = open(&proxy, &origin);
    have_sent(&mut client, &frame(FIN | TEXT, b"\xff"));
    expect(&mut client, FIN | CLOSE, closed(1001, ""));
    let line = proxy.wait_for_line("the upstream violated the WebSocket protocol");
    assert!(line.contains("WARN") && line.contains("UTF-8"), "{line}");
}
