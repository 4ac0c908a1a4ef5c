//! How a WebSocket closes: Closes, plugins, failures, peers that disconnect.

use std::time::{Duration, Instant};

use super::frames::{closed, expect};
use super::{
    BINARY, CLOSE, FIN, SWITCH, TEXT, frame, frames_at, have_sent, masked, obedient, open,
};
use super::{sockets, wait_for_frame};
use crate::support::{Client, End, Origin};

#[track_caller]
fn assert_closed(client: &mut Client, origin: &Origin) {
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(client.rest(), b"");
    client.finish();
    origin.wait_for_end();
}

#[test]
fn a_close_of_the_clients_passes_and_is_answered() {
    let (origin, proxy) = (obedient(), sockets().start());
    for data in [vec![], closed(1000, ""), closed(4999, "so long")] {
        let mut client = open(&proxy, &origin);
        client.send([masked(FIN | TEXT, "last"), masked(FIN | CLOSE, &data)].concat());
        expect(&mut client, FIN | TEXT, "LAST");
        expect(&mut client, FIN | CLOSE, &data);
        assert_closed(&mut client, &origin);
    }
    proxy.wait_for_line("Client Close: 4999 so long");
}

#[test]
fn a_close_of_the_upstreams_passes_and_is_answered() {
    let (origin, proxy) = (obedient(), sockets().start());
    let mut client = open(&proxy, &origin);
    let close = frame(FIN | CLOSE, closed(1012, "restart"));
    have_sent(&mut client, &[frame(FIN | TEXT, "last"), close].concat());
    expect(&mut client, FIN | TEXT, "LAST");
    expect(&mut client, FIN | CLOSE, closed(1012, "restart"));
    // Messages that the client sends before it sees the Close still pass.
    client.send(
        [
            masked(FIN | TEXT, "one more"),
            masked(FIN | CLOSE, closed(1012, "")),
        ]
        .concat(),
    );
    wait_for_frame(&origin, FIN | TEXT, b"ONE MORE");
    wait_for_frame(&origin, FIN | CLOSE, &closed(1012, ""));
    assert_eq!(client.read_to_end(), End::Closed);
    client.finish();
    origin.wait_for_end();
}

#[test]
fn nothing_passes_behind_a_close() {
    let (origin, proxy) = (obedient(), sockets().start());
    let mut client = open(&proxy, &origin);
    client.send(
        [
            masked(FIN | CLOSE, ""),
            masked(FIN | TEXT, "late"),
            vec![0xff; 20],
        ]
        .concat(),
    );
    expect(&mut client, FIN | CLOSE, "");
    assert_closed(&mut client, &origin);
    assert_eq!(frames_at(&origin), [(FIN | CLOSE, vec![])]);
}

#[test]
fn a_close_may_be_replaced() {
    let (origin, proxy) = (obedient(), sockets().start());
    let mut client = open(&proxy, &origin);
    client.send(masked(FIN | CLOSE, closed(1000, "rename")));
    expect(&mut client, FIN | CLOSE, closed(4321, "renamed"));
    assert_closed(&mut client, &origin);
}

#[test]
fn a_close_that_is_dropped_is_not_told_to_the_other_side() {
    let (origin, proxy) = (obedient(), sockets().start());
    let mut client = open(&proxy, &origin);
    client.send(masked(FIN | CLOSE, closed(1000, "keep")));
    proxy.wait_for_line("Client Close: 1000 keep");
    assert!(client.stays_quiet(Duration::from_millis(200)));
    client.finish();
    assert_closed(&mut client, &origin);
    assert_eq!(frames_at(&origin), []);
}

#[test]
fn a_plugin_may_close_both_sides() {
    let proxy = sockets().start();
    for from_origin in [false, true] {
        let origin = obedient();
        let mut client = open(&proxy, &origin);
        match from_origin {
            false => client.send([masked(FIN | TEXT, "close"), masked(FIN | TEXT, "x")].concat()),
            true => have_sent(&mut client, &frame(FIN | TEXT, "close")),
        }
        expect(&mut client, FIN | CLOSE, closed(1001, ""));
        wait_for_frame(&origin, FIN | CLOSE, &closed(1001, ""));
        assert_closed(&mut client, &origin);
        let expected = if from_origin { 2 } else { 1 };
        assert_eq!(frames_at(&origin).len(), expected);
    }
}

#[test]
fn a_plugin_may_close_both_sides_with_a_code_of_its_own() {
    let (origin, proxy) = (obedient(), sockets().start());
    let mut client = open(&proxy, &origin);
    client.send(masked(FIN | TEXT, "goodbye and thanks"));
    expect(&mut client, FIN | CLOSE, closed(4000, "and thanks"));
    wait_for_frame(&origin, FIN | CLOSE, &closed(4000, "and thanks"));
    assert_closed(&mut client, &origin);
    assert_eq!(frames_at(&origin).len(), 1);
}

#[test]
fn a_plugin_that_fails_closes_both_sides_and_is_named() {
    let proxy = sockets().start();
    let said = |word: &str| masked(FIN | TEXT, word);
    for (bytes, logged) in [
        (said("fail"), "the line is dead"),
        // Peer data must not become log fields.
        (
            said("fail plugin=Other hook=none"),
            "error=\"the line is dead: plugin=Other hook=none\"",
        ),
        (said("panic"), "the switchboard is on fire"),
        (
            said("bad"),
            "it replaced a Text message with data that is invalid for this kind",
        ),
        (
            masked(FIN | super::PING, "grow"),
            "it replaced a Ping message with",
        ),
    ] {
        let origin = obedient();
        let mut client = open(&proxy, &origin);
        client.send(bytes);
        expect(&mut client, FIN | CLOSE, closed(1011, ""));
        wait_for_frame(&origin, FIN | CLOSE, &closed(1011, ""));
        assert_closed(&mut client, &origin);
        let line = proxy.wait_for_line(logged);
        assert!(line.contains("ERROR") && line.contains("Sockets"), "{line}");
        assert!(line.contains("handle_websocket_message"), "{line}");
    }
}

#[test]
fn a_client_that_resets_takes_the_upstream_with_it() {
    let (origin, proxy) = (obedient(), sockets().start());
    let mut client = open(&proxy, &origin);
    client.send([masked(FIN | TEXT, "hello"), masked(TEXT, "half")].concat());
    expect(&mut client, FIN | TEXT, "HELLO");
    client.reset();
    origin.wait_for_end();
    assert_eq!(frames_at(&origin), [(FIN | TEXT, b"HELLO".to_vec())]);
}

#[test]
fn an_upstream_that_resets_takes_the_client_with_it() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send([SWITCH.as_bytes(), &frame(BINARY, "half")].concat());
        peer.wait_for(b"\x81\x85");
        peer.reset();
    });
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    client.send(masked(FIN | TEXT, "hello"));
    client.read_to_end();
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_half_message_of_an_upstream_that_leaves_does_not_pass() {
    let origin = Origin::serve(|peer| {
        peer.head();
        let begun = frame(TEXT, "half");
        peer.send([SWITCH.as_bytes(), &frame(FIN | TEXT, "whole"), &begun].concat());
    });
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    expect(&mut client, FIN | TEXT, "WHOLE");
    assert_closed(&mut client, &origin);
}

#[test]
fn half_closes_pass_and_the_other_direction_goes_on() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send(SWITCH);
        peer.park();
        peer.send(frame(FIN | TEXT, "you have left"));
    });
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    client.send(masked(FIN | TEXT, "hello"));
    client.finish();
    expect(&mut client, FIN | TEXT, "YOU HAVE LEFT");
    assert_closed(&mut client, &origin);
    assert_eq!(frames_at(&origin), [(FIN | TEXT, b"HELLO".to_vec())]);
}

#[test]
fn a_half_closed_websocket_in_which_nothing_moves_is_closed() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send(SWITCH);
        peer.park();
        peer.pause(20_000);
    });
    let proxy = sockets().config("[timeouts]\nhalf_closed = 0.5").start();
    let unused = proxy.open_files();
    let mut client = open(&proxy, &origin);
    client.send(masked(FIN | TEXT, "hello"));
    client.finish();
    client.read_to_end();
    assert!(proxy.wait_for_open_files(unused) <= unused);
}

#[test]
fn a_peer_that_does_not_close_its_connection_is_not_waited_for() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send([SWITCH.as_bytes(), &frame(FIN | CLOSE, "")].concat());
        // Ignores the Close and the end of the connection.
        peer.park();
        peer.pause(20_000);
    });
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    expect(&mut client, FIN | CLOSE, "");
    let started_at = Instant::now();
    client.send(masked(FIN | CLOSE, ""));
    assert_eq!(client.read_to_end(), End::Closed);
    proxy.wait_for_line("messages=2");
    assert!(started_at.elapsed() < Duration::from_secs(8));
}
