//! Clients that disconnect before they get a response. A reset ends the exchange; after a half-close, some clients
//! still wait for the response.

use std::io::Write;
use std::thread;
use std::time::Duration;

use h2::Reason;

use crate::support::tls::{Answer, Ask, Gate, Offer, Pki, Way};
use crate::support::{Client, End, OK, Origin, Proxy, ProxyCommand, get, pattern, request};

/// A proxy whose limits are too long to expire during a test, except those in `timeouts`.
fn with(timeouts: &str) -> ProxyCommand {
    Proxy::command().config(&format!(
        "[timeouts]\nupstream_response = 600\nupstream_idle = 600\nstall = 600\n{timeouts}"
    ))
}

/// A proxy whose limit for half-closed clients never expires in a test, so only a reset has an effect.
fn patient() -> Proxy {
    with("half_closed = 600").start()
}

/// A proxy that closes half-closed clients after half a second.
fn hasty() -> Proxy {
    with("half_closed = 0.5").start()
}

/// An origin that reads everything and neither responds nor closes.
fn deaf() -> Origin {
    Origin::serve(|peer| {
        peer.park();
        peer.pause(20_000);
    })
}

fn asking(proxy: &Proxy, origin: &Origin, content: Option<&str>) -> Client {
    let mut client = proxy.client();
    client.send(match content {
        None => get(origin, "/"),
        Some(content) => {
            let fields = format!("Content-Length: {}\r\n", content.len());
            request("POST", origin, "/", &fields) + content
        }
    });
    origin.wait_for(content.unwrap_or("\r\n\r\n").as_bytes());
    client
}

#[test]
fn a_reset_ends_an_exchange_whose_upstream_is_silent() {
    let proxy = patient();
    for content in [None, Some("content")] {
        let origin = Origin::silent();
        asking(&proxy, &origin, content).reset();
        origin.wait_for_end();
    }
}

#[test]
fn a_reset_ends_an_exchange_whose_next_request_is_there_already() {
    let proxy = patient();
    let origin = Origin::silent();
    let mut client = proxy.client();
    client.send(get(&origin, "/").repeat(2));
    origin.wait_for(b"\r\n\r\n");
    client.reset();
    origin.wait_for_end();
}

#[test]
fn a_reset_ends_an_exchange_in_the_middle_of_its_response() {
    let proxy = patient();
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun");
        peer.park();
    });
    let mut client = proxy.client();
    client.send(get(&origin, "/"));
    client.read_until(b"begun");
    client.reset();
    origin.wait_for_end();
}

#[test]
fn a_reset_ends_an_upload_that_the_upstream_does_not_take() {
    let proxy = patient();
    let origin = deaf_after_head();
    let client = proxy.client();
    let mut socket = client.socket().try_clone().expect("a socket can be cloned");
    let head = request("POST", &origin, "/", "Content-Length: 1000000000\r\n");
    socket.write_all(head.as_bytes()).expect("the proxy reads");
    let part = [b'u'; 65536];
    let limit = Some(Duration::from_millis(500));
    socket
        .set_write_timeout(limit)
        .expect("a TCP socket has it");
    while socket.write_all(&part).is_ok() {}
    let held = proxy.open_files();
    drop(socket);
    client.reset();
    // The client's socket and the upstream socket.
    assert!(proxy.wait_for_open_files(held - 2) <= held - 2);
}

/// An origin that reads the head and nothing after it.
fn deaf_after_head() -> Origin {
    Origin::serve(|peer| {
        peer.head();
        peer.pause(20_000);
    })
}

#[test]
fn a_half_closed_client_still_gets_its_answer() {
    let proxy = with("half_closed = 5").start();
    let origin = Origin::serve(|peer| {
        while peer.request().is_some() {
            peer.pause(900);
            peer.send(OK);
        }
    });
    for content in [None, Some("content")] {
        let mut client = asking(&proxy, &origin, content);
        client.finish();
        assert_eq!(client.response().text(), "origin-ok");
        assert_eq!(client.read_to_end(), End::Closed);
    }
}

#[test]
fn a_half_closed_client_gets_an_answer_that_takes_its_time() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
        for _ in 0..8 {
            peer.pause(200);
            peer.send("x");
        }
        peer.park();
    });
    let proxy = hasty();
    let mut client = asking(&proxy, &origin, None);
    client.finish();
    assert_eq!(client.response().text(), "xxxxxxxx");
}

/// More bytes than the buffers between origin and client hold.
const LONG: usize = 24 << 20;

/// Waits until the proxy has closed two new half-closed clients, one after the other. Any client half-closed before
/// them has then exceeded the limit too.
fn outlast_half_closed(proxy: &Proxy) {
    for _ in 0..2 {
        let origin = Origin::silent();
        let mut client = asking(proxy, &origin, None);
        client.finish();
        origin.wait_for_end();
    }
}

#[test]
fn a_half_closed_client_may_pause_before_it_reads_on() {
    let long = pattern(LONG);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n");
    let answer = [answer.as_bytes(), &long].concat();
    let origin = Origin::answering(answer);
    let proxy = hasty();
    for content in ["", "content"] {
        let mut client = proxy.client();
        client.receive_little();
        let fields = format!("Content-Length: {}\r\n", content.len());
        client.send(request("POST", &origin, "/", &fields) + content);
        client.finish();
        outlast_half_closed(&proxy);
        assert_eq!(client.read_to_end(), End::Closed);
        assert!(client.rest().ends_with(&long), "{}", client.rest().len());
    }
}

#[test]
fn a_half_closed_tunnel_waits_for_who_reads() {
    let long = pattern(LONG);
    let sent = long.clone();
    let origin = Origin::serve(move |peer| {
        peer.send(&sent);
        peer.finish();
        peer.park();
    });
    let proxy = hasty();
    let mut client = proxy.tunnel(&origin);
    client.receive_little();
    client.finish();
    outlast_half_closed(&proxy);
    assert_eq!(client.read_to_end(), End::Closed);
    assert!(client.rest() == long, "{}", client.rest().len());
}

#[test]
fn a_half_closed_client_is_not_answered_for_ever() {
    let proxy = hasty();
    for content in [None, Some("content")] {
        let origin = Origin::silent();
        let mut client = asking(&proxy, &origin, content);
        client.finish();
        origin.wait_for_end();
        assert_eq!(client.read_to_end(), End::Closed);
        assert_eq!(client.rest(), b"");
    }
    proxy.wait_for_line("the client disconnected");
}

#[test]
fn a_half_closed_client_ends_a_silent_stream_of_events() {
    let proxy = hasty();
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
             Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n",
        );
        peer.park();
    });
    for content in [None, Some("content")] {
        let mut client = asking(&proxy, &origin, content);
        client.read_until(b"data: a");
        client.finish();
        client.read_to_end();
        origin.wait_for_end();
    }
}

#[test]
fn a_half_closed_client_ends_a_hook_that_waits() {
    let origin = Origin::answering(OK);
    let proxy = with("half_closed = 0.5\nplugin_hook = 60")
        .plugin("zoo", "AsyncSleep")
        .plugin_config("AsyncSleep.ms=60000")
        .start();
    let mut client = proxy.client();
    client.send(get(&origin, "/"));
    client.finish();
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(client.rest(), b"");
    origin.assert_untouched();
}

#[test]
fn a_half_closed_client_ends_the_task_that_answers_it() {
    let proxy = with("half_closed = 0.5")
        .args(["--enable-web-server"])
        .plugin("routes", "Pages")
        .start();
    let mut client = proxy.client();
    client.send("GET /slow HTTP/1.1\r\nHost: site.example\r\n\r\n");
    proxy.wait_for_line("/slow waits");
    client.finish();
    proxy.wait_for_line("/slow is given up");
    assert_eq!(client.read_to_end(), End::Closed);
}

#[test]
fn a_client_that_leaves_cancels_its_stream_and_no_more() {
    let pki = Pki::new();
    let gate = Gate::closed();
    let held = Answer::ok("ok").behind(&gate);
    let origin = pki
        .origin()
        .offering(Offer::Http2)
        .serve(move |seen| match seen.path.as_str() {
            "/held" => held.clone(),
            _ => Answer::ok("ok"),
        });
    let proxy = pki
        .intercepting()
        .config("[timeouts]\nupstream_response = 600\nhalf_closed = 0.5")
        .args(["--num-workers", "1"])
        .start();
    let authority = origin.authority();
    // Over HTTP/1.1, by closing TLS.
    let client = pki.client(&proxy).offering(Offer::Http1);
    let mut pipe = client.try_secure(&authority).expect("TLS");
    pipe.send(format!("GET /held HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    origin.wait_for_requests(1);
    pipe.finish();
    assert_eq!(pipe.read_to_end().0, b"");
    // Over HTTP/2, by resetting the stream.
    let session = pki.client(&proxy).https(&authority);
    let stream = session.open(&Ask::get(&authority, "/held"));
    origin.wait_for_requests(2);
    stream.reset(Reason::CANCEL);
    let mut session = pki.client(&proxy).https(&authority);
    assert_eq!(
        session.ask(Ask::get(&authority, "/")).told(),
        (200, "ok".into())
    );
    assert_eq!(origin.connections().len(), 1);
    gate.open();
}

#[test]
fn a_client_of_http2_that_closes_its_connection_ends_its_exchanges() {
    let pki = Pki::new();
    let origin = Origin::silent();
    let proxy = pki.relaying().args(pki.listener());
    let proxy = proxy
        .config("[timeouts]\nupstream_response = 600\nhalf_closed = 600")
        .start();
    let session = pki.client(&proxy).over(Way::Http2).session();
    let stream = session.open(&Ask::get(&origin.authority(), "/"));
    origin.wait_for(b"\r\n\r\n");
    drop(stream);
    drop(session);
    origin.wait_for_end();
}

#[test]
fn a_half_closed_tunnel_in_which_nothing_moves_is_closed() {
    let proxy = hasty();
    let unused = proxy.open_files();
    let origin = deaf();
    let mut client = proxy.tunnel(&origin);
    client.send("hello");
    client.finish();
    assert_eq!(client.read_to_end(), End::Closed);
    assert!(proxy.wait_for_open_files(unused) <= unused);
    let origin = Origin::serve(|peer| {
        peer.send("last words");
        peer.finish();
        peer.park();
    });
    let mut client = proxy.tunnel(&origin);
    client.read_until(b"last words");
    origin.wait_for_end();
    assert!(proxy.wait_for_open_files(unused) <= unused);
}

#[test]
fn a_half_closed_tunnel_that_moves_goes_on() {
    let origin = Origin::serve(|peer| {
        peer.park();
        for _ in 0..8 {
            peer.pause(200);
            peer.send("x");
        }
    });
    let proxy = with("half_closed = 0.5").start();
    let mut client = proxy.tunnel(&origin);
    client.finish();
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(client.rest(), b"xxxxxxxx");
    // Until one side half-closes, the idle limit of tunnels applies.
    let origin = Origin::echoing();
    let mut client = proxy.tunnel(&origin);
    thread::sleep(Duration::from_millis(900));
    client.send("still here");
    assert_eq!(client.read_exact(10), b"still here");
}
