//! Messages, and what plugins change in them.

use super::frames::expect;
use super::{BINARY, CLOSE, FIN, Frames, PING, PONG, TEXT, frame, frames_at, have_sent, masked};
use super::{obedient, open, sockets, wait_for_frame};
use crate::support::{Proxy, pattern};

#[test]
fn texts_are_seen_and_changed_both_ways() {
    let origin = obedient();
    let proxy = sockets().plugin_config("Sockets.label=\"a\"").start();
    let mut client = open(&proxy, &origin);
    client.send(masked(FIN | TEXT, "hello"));
    expect(&mut client, FIN | TEXT, "HELLO");
    have_sent(&mut client, &frame(FIN | TEXT, "grüße"));
    expect(&mut client, FIN | TEXT, "GRÜSSE");
    for line in [
        "a Client Text: hello",
        "a Upstream Text: HELLO",
        "a Client Binary: \\x81",
    ] {
        proxy.wait_for_line(&format!("socket {line}"));
    }
    assert_eq!(frames_at(&origin)[0], (FIN | TEXT, b"HELLO".to_vec()));
}

#[test]
fn everything_else_passes_as_it_is() {
    let origin = obedient();
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    client.send(masked(FIN | PING, "are you there"));
    expect(&mut client, FIN | PONG, "are you there");
    client.send(masked(FIN | PONG, ""));
    wait_for_frame(&origin, FIN | PONG, b"");
    for len in [0, 1, 125, 126, 127, 65535, 65536, 200_000] {
        let data = pattern(len);
        have_sent(&mut client, &frame(FIN | BINARY, &data));
        expect(&mut client, FIN | BINARY, &data);
    }
}

#[test]
fn every_frame_to_the_upstream_has_a_mask_of_its_own() {
    let origin = obedient();
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    for _ in 0..20 {
        client.send(masked(FIN | TEXT, "hello"));
        expect(&mut client, FIN | TEXT, "HELLO");
    }
    let received = origin.received();
    let head = crate::support::position(&received, b"\r\n\r\n").expect("there is a head");
    let mut rest = received[head + 4..].to_vec();
    let mut masks: Vec<_> = std::iter::from_fn(|| rest.frame())
        .map(|frame| frame.mask)
        .collect();
    assert!(masks.iter().all(Option::is_some));
    masks.sort();
    masks.dedup();
    assert!(masks.len() >= 19, "{masks:?}");
}

#[test]
fn fragments_become_one_frame_and_pings_do_not_wait_for_it() {
    let origin = obedient();
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    client.send(
        [
            masked(TEXT, "one "),
            masked(FIN | PING, "1"),
            masked(0, "tw"),
        ]
        .concat(),
    );
    expect(&mut client, FIN | PONG, "1");
    client.send([masked(FIN | PING, "2"), masked(0, "")].concat());
    expect(&mut client, FIN | PONG, "2");
    client.send(masked(FIN, "o"));
    expect(&mut client, FIN | TEXT, "ONE TWO");
    let got = [
        (FIN | PING, "1"),
        (FIN | PING, "2"),
        (FIN | TEXT, "ONE TWO"),
    ];
    assert_eq!(
        frames_at(&origin),
        got.map(|(first, data)| (first, data.into()))
    );

    let parts = [frame(BINARY, "a"), frame(FIN | PING, "3"), frame(0, "b")];
    have_sent(&mut client, &parts.concat());
    expect(&mut client, FIN | PING, "3");
    have_sent(&mut client, &frame(FIN, "c"));
    expect(&mut client, FIN | BINARY, "abc");
}

#[test]
fn bytes_may_come_one_by_one() {
    let origin = obedient();
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    let parts = [
        masked(TEXT, "gr\u{fc}".as_bytes()),
        masked(FIN | PING, "ping"),
        masked(0, b"\xc3"),
        masked(FIN, b"\x9fe"),
        masked(FIN | BINARY, frame(FIN | TEXT, "x".repeat(130))),
    ];
    client.dribble(parts.concat());
    expect(&mut client, FIN | PONG, "ping");
    expect(&mut client, FIN | TEXT, "GRÜSSE");
    expect(&mut client, FIN | TEXT, "X".repeat(130));
}

#[test]
fn a_megabyte_passes_both_ways() {
    let origin = obedient();
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    let text = "abcdefgh".repeat(1 << 17);
    client.send(masked(FIN | TEXT, &text));
    expect(&mut client, FIN | TEXT, text.to_uppercase());
    let data = pattern(1 << 20);
    for part in masked(FIN | BINARY, frame(FIN | BINARY, &data)).chunks(1000) {
        client.send(part);
    }
    expect(&mut client, FIN | BINARY, data);
}

#[test]
fn what_is_dropped_does_not_arrive() {
    let origin = obedient();
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    client.send([masked(FIN | TEXT, "drop"), masked(FIN | TEXT, "keep")].concat());
    expect(&mut client, FIN | TEXT, "KEEP");
    have_sent(
        &mut client,
        &[frame(FIN | TEXT, "drop"), frame(FIN | TEXT, "more")].concat(),
    );
    expect(&mut client, FIN | TEXT, "MORE");
    assert_eq!(frames_at(&origin)[0], (FIN | TEXT, b"KEEP".to_vec()));
}

#[test]
fn an_empty_message_is_not_none() {
    let origin = obedient();
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    client.send([masked(FIN | TEXT, ""), masked(FIN | TEXT, "empty")].concat());
    expect(&mut client, FIN | TEXT, "");
    expect(&mut client, FIN | TEXT, "");
}

#[test]
fn a_ping_may_be_answered_in_the_upstreams_place() {
    let origin = obedient();
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    client.send([masked(FIN | PING, "answer"), masked(FIN | TEXT, "next")].concat());
    expect(&mut client, FIN | PONG, "answer");
    expect(&mut client, FIN | TEXT, "NEXT");
    assert_eq!(frames_at(&origin).len(), 1);
}

#[test]
fn messages_of_a_plugins_own_go_out_before_and_are_not_shown() {
    let origin = obedient();
    let proxy = sockets()
        .plugin("zoo", "SocketsB")
        .plugin_config("Sockets.label=\"a\"")
        .plugin_config("SocketsB.label=\"b\"")
        .plugin_config("SocketsB.idle=true")
        .start();
    let mut client = open(&proxy, &origin);
    client.send(masked(FIN | TEXT, "tell upstream first"));
    // The origin echoes both.
    expect(&mut client, FIN | TEXT, "FIRST");
    expect(&mut client, FIN | TEXT, "TELL UPSTREAM FIRST");
    let at_origin = frames_at(&origin);
    assert_eq!(at_origin[0], (FIN | TEXT, b"first".to_vec()));
    assert_eq!(at_origin[1], (FIN | TEXT, b"TELL UPSTREAM FIRST".to_vec()));

    have_sent(&mut client, &frame(FIN | TEXT, "tell client hear"));
    expect(&mut client, FIN | TEXT, "hear");
    expect(&mut client, FIN | TEXT, "TELL CLIENT HEAR");
    client.send(masked(FIN | TEXT, "tell both all"));
    for said in ["all", "ALL", "TELL BOTH ALL"] {
        expect(&mut client, FIN | TEXT, said);
    }
    client.send(masked(FIN | TEXT, "echo yourself"));
    expect(&mut client, FIN | TEXT, "yourself");

    proxy.wait_for_line("socket a Client Text: echo yourself");
    let lines = proxy.lines();
    let has = |text: &str| lines.iter().any(|line| line.contains(text));
    // The second plugin sees messages as edited by the first. No plugin sees messages sent by a plugin.
    assert!(has("socket b Client Text: TELL UPSTREAM FIRST"));
    assert!(has("socket b Upstream Text: TELL CLIENT HEAR"));
    for unseen in ["Client Text: first", "Upstream Text: hear", "yourself\n"] {
        assert!(!has(unseen), "{unseen}");
    }
    assert!(!has("socket b Client Text: echo") && !has("socket b Client Text: tell"));
}

#[test]
fn plugins_cannot_send_what_nobody_may() {
    let origin = obedient();
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    client.send(masked(FIN | TEXT, "try"));
    expect(&mut client, FIN | TEXT, "TRY");
}

#[test]
fn the_state_of_the_exchange_lasts_and_the_log_has_it() {
    let origin = obedient();
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    client.send([masked(FIN | TEXT, "a"), masked(FIN | CLOSE, "")].concat());
    expect(&mut client, FIN | TEXT, "A");
    expect(&mut client, FIN | CLOSE, "");
    let line = proxy.wait_for_line("messages=4");
    assert!(line.contains("101") && line.contains("GET"), "{line}");
}

#[test]
fn many_clients_do_not_disturb_each_other() {
    let origin = obedient();
    let proxy: Proxy = sockets().start();
    let mut clients: Vec<_> = (0..50).map(|_| open(&proxy, &origin)).collect();
    for round in 0..10 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(masked(FIN | TEXT, format!("client {number} round {round}")));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            expect(client, FIN | TEXT, format!("CLIENT {number} ROUND {round}"));
        }
    }
}
