//! Peers that flood the proxy with cheap frames or connections: they are disconnected or throttled, other clients are
//! served, and the log stays readable.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::tls::{Ask, Frame, Pki, Way};
use crate::support::{OK, Origin, Proxy, get};

/// The error code of a GOAWAY sent to a flooding peer (RFC 9113 §7).
const ENHANCE_YOUR_CALM: u32 = 11;

#[test]
fn stray_ping_acknowledgements_end_the_connection_and_fill_no_log() {
    let pki = Pki::new();
    let origin = Origin::answering(OK);
    let proxy = pki.relaying().args(pki.listener()).start();
    let mut client = pki.client(&proxy).over(Way::Http2).pipe().raw_http2();
    let ack = || Frame::new(Frame::PING, Frame::ACK, 0, *b"unasked!");
    let mut was_ended = false;
    for _ in 0..100 {
        let frames: Vec<_> = (0..1000).map(|_| ack()).collect();
        was_ended |= !client.send(&frames);
        if was_ended {
            break;
        }
    }
    let code = client.wait_for_end();
    assert!(was_ended || code == Some(ENHANCE_YOUR_CALM), "{code:?}");
    proxy.wait_for_line("closing the HTTP/2 connection of an abusive client");
    proxy.wait_for_line_where("what was left out", |line| {
        line.contains("PING ack") && line.contains(" more like this)")
    });
    let lines = proxy.lines();
    assert!(lines.len() < 30, "{} lines", lines.len());
    let mut session = pki.client(&proxy).over(Way::Http2).session();
    let ask = Ask::get(&origin.authority(), "/");
    assert_eq!(session.ask(ask).status, 200);
}

#[test]
fn connections_that_fail_write_a_few_lines_and_a_count() {
    let pki = Pki::new();
    let proxy = pki
        .relaying()
        .args(pki.listener())
        .args(["--num-workers", "1"])
        .start();
    for _ in 0..60 {
        let mut client = proxy.client();
        // No client starts a handshake with this message.
        client.send(b"\x16\x03\x01\0\x04\x0b\0\0\0");
        client.read_to_end();
    }
    let told = proxy.wait_for_line_where("what was left out", |line| {
        line.contains("TLS handshake with a client failed (and ")
            && line.contains(" more like this)")
    });
    assert!(told.contains(" - INFO - "), "{told}");
    let lines = proxy.lines();
    let written = lines
        .iter()
        .filter(|line| line.contains("TLS handshake with"));
    assert!(written.count() < 30, "{lines:#?}");
}

#[test]
fn others_are_served_while_pongs_pour_in() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .plugin("web_server_route", "WebServerPlugin")
        .args(["--num-workers", "1"])
        .start();
    let mut client = proxy.client();
    client.send(
        "GET /ws-route-example HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    client.read_until(b"\r\n\r\n");
    let pongs = b"\x8a\x80\0\0\0\0".repeat(20_000);
    let is_enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while client.try_send(&pongs) {
                if is_enough.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for _ in 0..50 {
            assert_eq!(proxy.get(&origin, "/").status(), 200);
        }
        is_enough.store(true, Ordering::Relaxed);
    });
}

#[test]
fn chunks_of_a_byte_reach_a_plugin_together() {
    let mut body = b"1\r\nx\r\n".repeat(50_000);
    body.extend_from_slice(b"3\r\nend\r\n0\r\n\r\n");
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let origin = Origin::answering([&head[..], &body].concat());
    let proxy = Proxy::command().plugin("zoo", "Upper").start();
    let mut client = proxy.client();
    let answer = client.ask(get(&origin, "/"));
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text(), "X".repeat(50_000) + "END");
    // Each piece that the plugin returns becomes one chunk.
    let lines = client.received().iter().filter(|byte| **byte == b'\n');
    assert!(lines.count() < 1000);
}
