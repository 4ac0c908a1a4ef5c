//! 1 GiB through a plugin, in each direction, without being held in memory.

use std::io::{Read, Write};

use super::{editors, orders, post};
use crate::support::{HANG, OK, Origin, Peer};

const LEN: usize = 1 << 30;
const PIECE: usize = 1 << 18;

#[test]
fn a_response_of_a_gib_leaves_no_trace() {
    let origin = Origin::serve(|peer| {
        while peer.request().is_some() {
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n"));
            let piece = vec![b'x'; PIECE];
            for _ in 0..LEN / PIECE {
                peer.send(&piece);
            }
        }
    });
    let proxy = editors().start();
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
    let before = proxy.resident_kib();
    let client = proxy.client();
    let mut socket = client.socket();
    // An HTTP/1.0 client receives the content without chunked framing.
    let head = post(&origin, "/", &orders(&["stream upper"])).replace("HTTP/1.1\r", "HTTP/1.0\r");
    let sent = socket.write_all((head + "\r\n").as_bytes());
    sent.expect("the proxy takes a request");
    let timeout = socket.set_read_timeout(Some(HANG));
    timeout.expect("a TCP socket has this option");
    let mut buffer = vec![0; PIECE];
    let (mut received, mut reads) = (0, 0);
    let mut grown = 0;
    let upper = vec![b'X'; PIECE];
    let mut head_len = None;
    loop {
        let len = socket.read(&mut buffer).expect("the response comes");
        if len == 0 {
            break;
        }
        let mut content = &buffer[..len];
        if head_len.is_none() {
            let end = crate::support::position(content, b"\r\n\r\n").expect("the head is short");
            head_len = Some(end + 4);
            content = &content[end + 4..];
        }
        assert!(content == &upper[..content.len()], "wrong at {received}");
        received += content.len();
        reads += 1;
        if reads % 64 == 0 {
            grown = grown.max(proxy.resident_kib().saturating_sub(before));
        }
    }
    assert_eq!(received, LEN);
    grown = grown.max(proxy.resident_kib().saturating_sub(before));
    assert!(grown < 16 * 1024, "{grown} KiB for a body that streams");
}

#[test]
fn a_request_of_a_gib_leaves_no_trace() {
    let origin = Origin::serve(|peer| {
        while peer.head().is_some() {
            let len = count_chunked(peer);
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nX-Counted: {len}\r\nContent-Length: 0\r\n\r\n"
            ));
        }
    });
    let proxy = editors().start();
    assert_eq!(proxy.get(&Origin::answering(OK), "/").status(), 200);
    let before = proxy.resident_kib();
    let mut client = proxy.client();
    client.send(
        post(&origin, "/", &orders(&["stream upper"])) + &format!("Content-Length: {LEN}\r\n\r\n"),
    );
    let piece = vec![b'x'; PIECE];
    let mut grown = 0;
    for number in 0..LEN / PIECE {
        client.send(&piece);
        if number % 64 == 0 {
            grown = grown.max(proxy.resident_kib().saturating_sub(before));
        }
    }
    let answer = client.response_to("POST");
    assert_eq!(answer.field("X-Counted"), Some(LEN.to_string()));
    grown = grown.max(proxy.resident_kib().saturating_sub(before));
    assert!(grown < 16 * 1024, "{grown} KiB for a body that streams");
}

/// Reads and discards a chunked body; returns the length of its content.
fn count_chunked(peer: &mut Peer) -> usize {
    let mut buffer = vec![0; PIECE];
    let mut line = Vec::new();
    let (mut total, mut skip, mut is_last) = (0, 0, false);
    while !is_last || skip > 0 {
        let len = peer.read_unrecorded(&mut buffer);
        assert!(len > 0, "the request ended after {total} bytes");
        let mut rest = &buffer[..len];
        while !rest.is_empty() {
            let passed = rest.len().min(skip);
            (skip, rest) = (skip - passed, &rest[passed..]);
            let Some((&byte, after)) = rest.split_first() else {
                break;
            };
            assert!(!is_last, "bytes behind the body");
            rest = after;
            line.push(byte);
            if line.ends_with(b"\r\n") {
                let digits = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
                let size = usize::from_str_radix(&digits, 16).expect("the size is hexadecimal");
                (total, skip, is_last) = (total + size, size + 2, size == 0);
                line.clear();
            }
        }
    }
    total
}
