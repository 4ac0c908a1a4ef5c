//! CONNECT and upgraded connections: bytes are relayed without inspection, half-closes in order, nothing leaks.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{End, Origin, Proxy, pattern, request};

/// Larger than all buffers in the path.
const BULK: usize = 24 << 20;

#[test]
fn carries_bulk_both_ways_at_the_same_time() {
    let origin = Origin::serve(|peer| {
        peer.send(pattern(BULK));
        peer.discard(BULK);
        peer.send("done");
    });
    let proxy = Proxy::start();
    let client = proxy.tunnel(&origin);
    let early = client.rest().to_vec();
    let mut socket = client.socket().try_clone().expect("a socket can be cloned");
    let sender = thread::spawn(move || {
        socket
            .write_all(&pattern(BULK))
            .expect("the tunnel takes everything");
        socket
            .shutdown(Shutdown::Write)
            .expect("the tunnel is open");
    });
    let mut received = early;
    client
        .socket()
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a TCP socket has this option");
    client
        .socket()
        .take(u64::MAX)
        .read_to_end(&mut received)
        .expect("the tunnel ends in order");
    sender.join().expect("the sender ends");
    assert_eq!(received.len(), BULK + 4);
    assert!(received[..BULK] == pattern(BULK)[..] && &received[BULK..] == b"done");
}

#[test]
fn carries_small_messages_back_and_forth() {
    let origin = Origin::echoing();
    let proxy = Proxy::start();
    let mut client = proxy.tunnel(&origin);
    for number in 0..500 {
        let message = format!("message {number:04};");
        client.send(&message);
        assert_eq!(client.read_exact(message.len()), message.as_bytes());
    }
}

#[test]
fn promises_nothing_before_the_origin_is_connected() {
    let proxy = Proxy::start();
    let answer = proxy.ask("CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n");
    assert_eq!(answer.status(), 502);
    assert!(answer.field("Proxy-Status").is_some());
}

#[test]
fn passes_the_clients_half_close_on() {
    let origin = Origin::serve(|peer| {
        peer.park();
        peer.send("you said ");
        peer.send(peer.received());
    });
    let proxy = Proxy::start();
    let mut client = proxy.tunnel(&origin);
    client.send("goodbye");
    client.finish();
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(client.rest(), b"you said goodbye");
}

#[test]
fn passes_the_origins_half_close_on() {
    let origin = Origin::serve(|peer| {
        peer.send("last words");
        peer.finish();
        peer.park();
    });
    let proxy = Proxy::start();
    let mut client = proxy.tunnel(&origin);
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(client.rest(), b"last words");
    client.send("still here");
    client.finish();
    origin.wait_for(b"still here");
    origin.wait_for_end();
}

#[test]
fn ends_when_the_origin_resets() {
    let origin = Origin::serve(|peer| {
        peer.wait_for(b"go");
        peer.reset();
    });
    let proxy = Proxy::start();
    let mut client = proxy.tunnel(&origin);
    client.send("go");
    client.read_to_end();
}

#[test]
fn ends_when_the_client_resets() {
    let origin = Origin::silent();
    let proxy = Proxy::start();
    let mut client = proxy.tunnel(&origin);
    client.send("go");
    origin.wait_for(b"go");
    client.reset();
    origin.wait_for_end();
}

#[test]
fn waits_for_a_reader_that_is_slow() {
    let origin = Origin::serve(|peer| {
        peer.send(pattern(BULK));
    });
    let proxy = Proxy::start();
    let mut client = proxy.tunnel(&origin);
    thread::sleep(Duration::from_millis(300));
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.end().is_none() && Instant::now() < deadline {
        client.fill(deadline);
    }
    assert_eq!(client.rest().len(), BULK);
    assert!(client.rest() == pattern(BULK));
}

#[test]
fn delivers_everything_although_the_client_writes_to_an_origin_that_has_gone() {
    const LEN: usize = 1_500_000;
    let origin = Origin::serve(|peer| {
        peer.send(pattern(LEN));
    });
    let proxy = Proxy::start();
    let mut client = proxy.tunnel(&origin);
    origin.wait_for_end();
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(300));
        client.try_send("x");
    }
    thread::sleep(Duration::from_millis(300));
    assert_eq!(client.read_slowly_to_end(), End::Closed);
    assert_eq!(client.rest().len(), LEN);
    assert!(client.rest() == pattern(LEN));
}

#[test]
#[cfg(target_os = "linux")]
fn carries_bulk_when_there_is_no_descriptor_left() {
    let origin = Origin::serve(|peer| {
        peer.wait_for(b"go");
        peer.send(pattern(BULK));
    });
    let proxy = Proxy::start();
    let mut client = proxy.tunnel(&origin);
    proxy.forbid_new_files();
    client.send("go");
    assert!(client.read_exact(BULK) == pattern(BULK));
}

#[test]
fn leaves_no_descriptor_behind() {
    let origin = Origin::echoing();
    let proxy = Proxy::start();
    proxy.tunnel(&origin).reset();
    origin.wait_for_end();
    let before = proxy.wait_for_open_files(0).max(proxy.open_files());
    let mut tunnels: Vec<_> = (0..60).map(|_| proxy.tunnel(&origin)).collect();
    for tunnel in &mut tunnels {
        tunnel.send(vec![b'x'; 100_000]);
    }
    for (number, mut tunnel) in tunnels.into_iter().enumerate() {
        match number % 3 {
            0 => tunnel.reset(),
            1 => drop(tunnel),
            _ => {
                tunnel.finish();
                tunnel.read_to_end();
            }
        }
    }
    let after = proxy.wait_for_open_files(before);
    // A few pipes may be cached for the next tunnel.
    assert!(after <= before + 16, "{after} descriptors after {before}");
}

#[test]
fn carries_bulk_through_an_upgraded_connection() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        peer.send(pattern(BULK));
        peer.park();
    });
    let proxy = Proxy::start();
    let mut client = proxy.client();
    client.send(request(
        "GET",
        &origin,
        "/",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    ));
    assert_eq!(client.response().status(), 101);
    assert!(client.read_exact(BULK) == pattern(BULK));
    client.send("closing");
    client.finish();
    origin.wait_for(b"closing");
    assert_eq!(client.read_to_end(), End::Closed);
}
