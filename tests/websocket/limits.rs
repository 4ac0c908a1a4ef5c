//! Memory and time limits: little is buffered for a peer that does not read, and never indefinitely.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use super::frames::{closed, expect};
use super::{BINARY, CLOSE, FIN, Frames, SWITCH, TEXT, frame, masked, obedient, open, sockets};
use crate::support::{End, Origin, pattern};

const MESSAGE: usize = 1 << 20;
const MESSAGES: usize = 96;

#[test]
fn a_client_that_reads_slowly_slows_the_upstream() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send(SWITCH);
        let message = frame(FIN | BINARY, pattern(MESSAGE));
        for _ in 0..MESSAGES {
            peer.send(&message);
        }
        peer.send(frame(FIN | CLOSE, ""));
        peer.park();
    });
    let proxy = sockets().start();
    let mut client = open(&proxy, &origin);
    let before = proxy.resident_kib();
    thread::sleep(Duration::from_millis(500));
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < 24 << 10, "{grown} KiB");
    for _ in 0..MESSAGES {
        let message = client.frame().expect("all of them come");
        assert!(message.data == pattern(MESSAGE));
    }
    expect(&mut client, FIN | CLOSE, "");
    client.send(masked(FIN | CLOSE, ""));
    assert_eq!(client.read_to_end(), End::Closed);
}

#[test]
fn a_client_that_does_not_read_what_it_causes_is_not_read() {
    let origin = obedient();
    let proxy = sockets().start();
    let client = open(&proxy, &origin);
    let before = proxy.resident_kib();
    let mut socket = client.socket().try_clone().expect("a socket can be cloned");
    socket
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("a TCP socket has this option");
    // The plugin echoes each message.
    let message = masked(FIN | TEXT, format!("echo {}", "x".repeat(MESSAGE)));
    let taken = (0..MESSAGES).take_while(|_| socket.write_all(&message).is_ok());
    let taken = taken.count();
    assert!(taken < MESSAGES / 2, "{taken} messages were taken");
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < 24 << 10, "{grown} KiB");
}

#[test]
fn an_idle_websocket_is_closed_with_a_close() {
    let origin = obedient();
    let proxy = sockets().config("[timeouts]\ntunnel_idle = 1\n").start();
    let mut client = open(&proxy, &origin);
    let started_at = Instant::now();
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(500));
        client.send(masked(FIN | TEXT, "hello"));
        expect(&mut client, FIN | TEXT, "HELLO");
    }
    expect(&mut client, FIN | CLOSE, closed(1001, ""));
    assert!(started_at.elapsed() > Duration::from_millis(2400));
    super::wait_for_frame(&origin, FIN | CLOSE, &closed(1001, ""));
    assert_eq!(client.read_to_end(), End::Closed);
}

#[test]
fn a_websocket_leaves_no_descriptor_behind() {
    let origin = obedient();
    let proxy = sockets().start();
    let mut first = open(&proxy, &origin);
    first.send(masked(FIN | CLOSE, ""));
    first.read_to_end();
    drop(first);
    origin.wait_for_end();
    let before = proxy.wait_for_open_files(0).max(proxy.open_files());
    let clients: Vec<_> = (0..40).map(|_| open(&proxy, &origin)).collect();
    for (number, mut client) in clients.into_iter().enumerate() {
        client.send(masked(TEXT, "half a message"));
        match number % 3 {
            0 => client.reset(),
            1 => drop(client),
            _ => {
                client.send(masked(FIN | CLOSE, ""));
                client.read_to_end();
            }
        }
    }
    let after = proxy.wait_for_open_files(before);
    assert!(after <= before, "{after} descriptors after {before}");
}
