//! Exchanges with pauses: what the proxy waits for, which deadline runs meanwhile, and what a real stall causes.

use std::thread;
use std::time::Duration;

use crate::support::tls::{Answer, Ask, Offer, Pki, Way};
use crate::support::{End, Origin, Proxy, ProxyCommand, get, pattern, request, response};

/// A pause longer than `timeouts.idle` of these tests, and shorter than their `timeouts.stall`.
const PAUSE: Duration = Duration::from_millis(900);
const IDLE: &str = "[timeouts]\nidle = 0.3\n";

fn with(timeouts: &str) -> ProxyCommand {
    Proxy::command().config(&format!("{IDLE}{timeouts}"))
}

/// An origin that sends eight chunks, one every 200 ms, then waits for the end of the request.
fn ticking() -> Origin {
    Origin::serve(|peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..8 {
            peer.pause(200);
            peer.send("4\r\ntick\r\n");
        }
        peer.wait_for(b"over");
        peer.send("0\r\n\r\n");
        peer.park();
    })
}

#[test]
fn an_upload_may_pause_for_longer_than_an_idle_connection() {
    let origin = Origin::answering(response("200 OK", "read"));
    let proxy = with("").start();
    for (framing, first, rest) in [
        ("Content-Length: 6", "one", "two"),
        (
            "Transfer-Encoding: chunked",
            "3\r\none\r\n",
            "3\r\ntwo\r\n0\r\n\r\n",
        ),
    ] {
        let mut client = proxy.client();
        client.send(request("PUT", &origin, "/", &format!("{framing}\r\n")) + first);
        assert!(client.stays_quiet(PAUSE), "{framing}");
        client.send(rest);
        assert_eq!(client.response_to("PUT").text(), "read", "{framing}");
    }
    assert!(origin.requests().iter().all(|seen| seen.text() == "onetwo"));
}

#[test]
fn a_reader_may_pause_for_longer_than_an_idle_connection() {
    const LEN: usize = 24 << 20;
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n"));
        peer.send(pattern(LEN));
        peer.park();
    });
    let proxy = with("").start();
    let mut client = proxy.client();
    client.receive_little();
    client.send(get(&origin, "/"));
    origin.wait_for(b"GET /");
    thread::sleep(PAUSE);
    assert!(client.response().body == pattern(LEN));
}

#[test]
fn a_client_that_waits_for_100_continue_has_the_time_of_the_upstream() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.pause(900);
        peer.send("HTTP/1.1 102 Processing\r\n\r\n");
        peer.pause(900);
        peer.send("HTTP/1.1 100 Continue\r\n\r\n");
        if peer.take(5).is_some() {
            peer.send(response("200 OK", "read"));
        }
        peer.park();
    });
    let proxy = with("stall = 0.5\nupstream_response = 1.5").start();
    let mut client = proxy.client();
    client.send(request(
        "PUT",
        &origin,
        "/",
        "Content-Length: 5\r\nExpect: 100-continue\r\n",
    ));
    assert_eq!(client.message("PUT").status(), 102);
    assert_eq!(client.message("PUT").status(), 100);
    client.send("12345");
    assert_eq!(client.response_to("PUT").text(), "read");
}

#[test]
fn an_upstream_that_says_neither_continue_nor_anything_else_is_504() {
    let origin = Origin::silent();
    let proxy = with("stall = 20\nupstream_response = 0.6").start();
    let mut client = proxy.client();
    client.send(request(
        "PUT",
        &origin,
        "/",
        "Content-Length: 5\r\nExpect: 100-continue\r\n",
    ));
    assert_eq!(client.response_to("PUT").status(), 504);
    client.read_to_end();
    origin.wait_for_end();
}

#[test]
fn a_client_that_was_told_to_continue_and_does_not_is_408() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send("HTTP/1.1 100 Continue\r\n\r\n");
        peer.park();
    });
    let proxy = with("stall = 0.5\nupstream_response = 0.2").start();
    let mut client = proxy.client();
    client.send(request(
        "PUT",
        &origin,
        "/",
        "Content-Length: 5\r\nExpect: 100-continue\r\n",
    ));
    assert_eq!(client.message("PUT").status(), 100);
    assert_eq!(client.response_to("PUT").status(), 408);
    origin.wait_for_end();
}

#[test]
fn a_client_that_does_not_wait_for_100_continue_has_its_own_time() {
    let origin = Origin::answering(response("200 OK", "read"));
    let proxy = with("stall = 2\nupstream_response = 0.5").start();
    let mut client = proxy.client();
    client.send(request(
        "PUT",
        &origin,
        "/",
        "Content-Length: 5\r\nExpect: 100-continue\r\n",
    ));
    origin.wait_for(b"100-continue");
    client.send("1");
    assert!(
        client.stays_quiet(PAUSE),
        "the upstream's time is not running"
    );
    client.send("2345");
    assert_eq!(client.response_to("PUT").text(), "read");
    client.send(request(
        "PUT",
        &origin,
        "/",
        "Content-Length: 5\r\nExpect: 100-continue\r\n",
    ));
    client.send("1");
    assert_eq!(client.response_to("PUT").status(), 408);
}

#[test]
fn a_response_that_moves_keeps_a_silent_upload_alive() {
    let origin = ticking();
    let proxy = with("stall = 0.6").start();
    let mut client = proxy.client();
    client.send(request("POST", &origin, "/", "Content-Length: 9\r\n") + "begun");
    client.read_until(&b"4\r\ntick\r\n".repeat(8));
    client.send("over");
    let answer = client.response_to("POST");
    assert!(answer.is_sound() && answer.text() == "tick".repeat(8));
}

#[test]
fn a_response_that_moves_keeps_a_silent_stream_of_http2_alive() {
    let pki = Pki::new();
    let origin = ticking();
    let proxy = pki
        .relaying()
        .args(pki.listener())
        .config("[timeouts]\nidle = 0.3\nstall = 0.6");
    let proxy = proxy.start();
    let session = pki.client(&proxy).over(Way::Http2).session();
    let mut stream = session.open(&Ask::new("POST", &origin.authority(), "/"));
    stream.send(b"begun");
    assert_eq!(stream.head().expect("a head").status, 200);
    assert_eq!(stream.read_exact(32), b"tick".repeat(8));
    stream.send(b"over");
    stream.finish();
    assert_eq!(stream.read().expect("an end"), b"");
}

#[test]
fn an_intercepted_stream_in_which_both_sides_pause_goes_on() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .offering(Offer::Http2)
        .answering(Answer::echo());
    let proxy = pki.intercepting().config("[timeouts]\nidle = 0.3").start();
    let authority = origin.authority();
    let session = pki.client(&proxy).https(&authority);
    let mut stream = session.open(&Ask::new("POST", &authority, "/"));
    stream.send(b"one");
    assert_eq!(stream.head().expect("a head").status, 200);
    assert_eq!(stream.read_exact(3), b"one");
    thread::sleep(PAUSE);
    stream.send(b"two");
    assert_eq!(stream.read_exact(3), b"two");
    stream.finish();
    assert_eq!(stream.read().expect("an end"), b"");
}

#[test]
fn a_stream_in_which_both_sides_stall_is_reset() {
    let pki = Pki::new();
    let origin = pki
        .origin()
        .offering(Offer::Http2)
        .answering(Answer::echo());
    let proxy = pki.intercepting().config("[timeouts]\nstall = 0.5").start();
    let authority = origin.authority();
    let session = pki.client(&proxy).https(&authority);
    let mut stream = session.open(&Ask::new("POST", &authority, "/"));
    stream.send(b"one");
    stream.head().expect("a head");
    assert_eq!(stream.read_exact(3), b"one");
    stream.read().expect_err("the stream is reset");
}

#[test]
fn an_upload_that_moves_keeps_a_silent_response_alive() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
        peer.wait_for(b"uuuuuuuu");
        peer.send("last");
        peer.park();
    });
    let proxy = with("upstream_response = 20\nupstream_idle = 0.6\nstall = 5").start();
    let mut client = proxy.client();
    client.send(request("POST", &origin, "/", "Content-Length: 1000\r\n"));
    client.read_until(b"first");
    for _ in 0..8 {
        assert!(client.stays_quiet(Duration::from_millis(200)));
        client.send("u");
    }
    assert_eq!(client.response_to("POST").text(), "firstlast");
}

#[test]
fn an_upstream_that_does_not_take_the_request_is_504() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.pause(20_000);
    });
    let proxy = with("stall = 0.6").start();
    let mut client = proxy.client();
    client.send(request(
        "POST",
        &origin,
        "/",
        "Content-Length: 1000000000\r\n",
    ));
    let mut socket = client.socket().try_clone().expect("a socket can be cloned");
    let sender = thread::spawn(move || {
        let part = [b'u'; 65536];
        while std::io::Write::write_all(&mut socket, &part).is_ok() {}
    });
    let answer = client.response_to("POST");
    assert_eq!(answer.status(), 504);
    let status = answer.field("Proxy-Status").unwrap_or_default();
    assert!(status.contains("connection_write_timeout"), "{status}");
    drop(client);
    sender.join().expect("the sender ends");
}

#[test]
fn hosts_may_have_timeouts_of_their_own() {
    let origin = Origin::serve(|peer| {
        while peer.request().is_some() {
            peer.pause(900);
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst");
            peer.pause(900);
            peer.send("last");
        }
    });
    let general = "upstream_response = 0.4\nupstream_idle = 0.4\n";
    let own = "[[timeouts.hosts]]\nhosts = [\".example\", \"127.0.0.1\"]\n\
               upstream_response = 20\nupstream_idle = 20\n\
               [[timeouts.hosts]]\nhosts = [\"*\"]\nupstream_response = 0.4\n";
    let proxy = with(&format!("{general}{own}")).start();
    assert_eq!(proxy.get(&origin, "/").text(), "firstlast");
    let proxy = with(general).start();
    assert_eq!(proxy.get(&origin, "/").status(), 504);
}

#[test]
fn a_tunnel_may_have_timeouts_of_its_host() {
    let origin = Origin::echoing();
    let own = "tunnel_idle = 0.3\n[[timeouts.hosts]]\nhosts = [\"127.0.0.1\"]\ntunnel_idle = 20";
    let proxy = with(own).start();
    let mut client = proxy.tunnel(&origin);
    thread::sleep(PAUSE);
    client.send("still here");
    assert_eq!(client.read_exact(10), b"still here");
}

fn events() -> Origin {
    // The origin keeps its connections open: the next request must not meet one that is being closed.
    Origin::serve(|peer| {
        while peer.request().is_some() {
            peer.send(
                "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\
                 Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n",
            );
            peer.pause(900);
            peer.send("9\r\ndata: b\n\n\r\n0\r\n\r\n");
        }
    })
}

#[test]
fn a_stream_of_events_may_be_silent_for_as_long_as_a_tunnel() {
    let origin = events();
    let proxy = with("upstream_idle = 0.4\nstall = 0.4").start();
    assert_eq!(proxy.get(&origin, "/").text(), "data: a\n\ndata: b\n\n");
    let posted = request("POST", &origin, "/", "Content-Length: 2\r\n") + "ab";
    assert_eq!(proxy.ask(posted).text(), "data: a\n\ndata: b\n\n");
    let proxy = with("upstream_idle = 0.3\ntunnel_idle = 0.5").start();
    let mut client = proxy.client();
    client.send(get(&origin, "/"));
    let answer = client.response();
    assert!(!answer.complete || client.read_to_end() == End::Reset);
}

#[test]
fn a_request_may_wait_beside_a_stream_of_events() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
             Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n",
        );
        if peer.wait_for(b"over") {
            peer.send("0\r\n\r\n");
        }
        peer.park();
    });
    let proxy = with("upstream_idle = 0.4\nstall = 0.4").start();
    let mut client = proxy.client();
    client.send(request("POST", &origin, "/", "Content-Length: 9\r\n") + "begun");
    client.read_until(b"data: a");
    assert!(client.stays_quiet(PAUSE));
    client.send("over");
    assert!(client.response_to("POST").is_sound());
}
