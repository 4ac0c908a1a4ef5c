//! Slow and silent peers: each deadline has its own consequence, and no peer makes the proxy hang.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::{
    End, HANG, OK, Origin, Proxy, contains, get, parse_all, pattern, request, response,
};

#[test]
fn a_head_that_does_not_come_to_its_end_is_408() {
    let proxy = Proxy::command()
        .config("[timeouts]\nheader_read = 0.5")
        .start();
    let mut client = proxy.client();
    client.send("GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127");
    let answer = client.response();
    assert_eq!(answer.status(), 408);
    assert!(answer.field("Proxy-Status").is_some());
    assert_eq!(client.read_to_end(), End::Closed);
}

#[test]
fn the_duration_of_an_exchange_begins_with_the_first_byte_of_its_head() {
    let proxy = Proxy::command()
        .config("[timeouts]\nheader_read = 0.5")
        .start();
    let mut client = proxy.client();
    client.send("GET http://127.0.0.1/ HTTP/1.1\r\n");
    assert_eq!(client.response().status(), 408);
    proxy.wait_for_line("answered 408");
    let lines = proxy.lines();
    let line = lines.iter().find(|line| line.contains("answered 408"));
    let parts = line.into_iter().flat_map(|line| line.split(" - "));
    let mut durations = parts.filter_map(|part| part.strip_suffix(" ms")?.parse::<f64>().ok());
    // The proxy must not time out early.
    assert!(durations.next().is_some_and(|ms| ms >= 500.0), "{line:?}");
}

#[test]
fn a_head_that_is_dribbled_is_408() {
    let proxy = Proxy::command()
        .config("[timeouts]\nheader_read = 0.5\nidle = 5")
        .start();
    let mut client = proxy.client();
    client.send("GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n");
    let started = Instant::now();
    let mut sent = 0;
    while sent < 100_000
        && client.stays_quiet(Duration::from_millis(20))
        && client.try_send("X: y\r\n")
    {
        sent += 6;
    }
    assert_eq!(client.response().status(), 408, "after {sent} bytes");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_connection_without_a_request_is_closed_silently() {
    let proxy = Proxy::command().args(["--timeout", "0.5"]).start();
    let mut client = proxy.client();
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(client.received(), b"");
}

#[test]
fn an_idle_connection_is_closed_silently() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command().args(["--timeout", "0.5"]).start();
    let mut client = proxy.client();
    assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_client_that_stalls_within_a_body_ends_its_request() {
    let origin = Origin::silent();
    let proxy = Proxy::command().config("[timeouts]\nstall = 0.5").start();
    let mut client = proxy.client();
    client.send(request("POST", &origin, "/", "Content-Length: 100\r\n") + "only this");
    client.read_to_end();
    let answer = client.rest();
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "),
        "{}",
        answer.escape_ascii()
    );
    origin.wait_for_end();
    assert!(origin.requests().is_empty());
}

#[test]
fn a_client_that_stalls_after_the_answer_began_gets_no_second_head() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        peer.park();
    });
    let proxy = Proxy::command().config("[timeouts]\nstall = 0.5").start();
    let mut client = proxy.client();
    client.send(request("POST", &origin, "/", "Content-Length: 100\r\n") + "only this");
    client.read_until(b"hello");
    client.read_to_end();
    let heads = client
        .received()
        .windows(9)
        .filter(|window| window == b"HTTP/1.1 ")
        .count();
    assert_eq!(heads, 1, "{}", client.received().escape_ascii());
    assert!(!client.response_to("POST").complete);
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            1 << 30
        ));
        while peer.send([b'd'; 65536]) {}
    });
    let proxy = Proxy::command().config("[timeouts]\nstall = 0.5").start();
    let mut client = proxy.client();
    client.send(get(&origin, "/"));
    origin.wait_for(b"GET /");
    thread::sleep(Duration::from_secs(2));
    let started = Instant::now();
    while client.end().is_none() && started.elapsed() < HANG {
        client.fill(started + HANG);
    }
    assert!(
        client.end().is_some() && client.received().len() < 1 << 28,
        "the connection is still served"
    );
}

#[test]
fn a_client_that_stalls_within_a_pipeline_gets_no_head_within_a_body() {
    const REQUESTS: usize = 1000;
    const LEN: usize = 15_000;
    let origin = Origin::answering(
        [
            format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n").into_bytes(),
            pattern(LEN),
        ]
        .concat(),
    );
    let proxy = Proxy::command().config("[timeouts]\nstall = 1").start();
    let mut client = proxy.client();
    client.receive_little();
    client.send(get(&origin, "/").repeat(REQUESTS));
    // Past the limit once, not twice: an error response to the stall would now fit into the socket buffers.
    thread::sleep(Duration::from_millis(1600));
    client.read_to_end();
    let methods = ["GET"; REQUESTS];
    let (answers, rest) = parse_all(client.received(), &methods, false);
    assert!(answers.len() < REQUESTS, "the client never stalled");
    let body = pattern(LEN);
    for (at, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status(), 200, "answer {at}: {}", answer.start);
        assert!(answer.fault.is_none() && body.starts_with(&answer.body));
        assert!(answer.complete || at + 1 == answers.len());
    }
    assert!(!contains(client.received(), b"HTTP/1.1 408"));
    assert!(b"HTTP/1.1 200".starts_with(&rest[..rest.len().min(12)]));
}

#[test]
fn a_stray_line_end_on_an_idle_connection_is_not_answered() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .config("[timeouts]\nheader_read = 0.5\nidle = 60")
        .start();
    let mut client = proxy.client();
    assert_eq!(client.ask(get(&origin, "/")).status(), 200);
    client.send("\r\n");
    assert_eq!(client.read_to_end(), End::Closed);
    assert_eq!(client.rest(), b"");
}

#[test]
fn an_origin_that_does_not_accept_is_504() {
    let (listener, address) = black_hole();
    let proxy = Proxy::command().config("[timeouts]\nconnect = 0.5").start();
    let started = Instant::now();
    let answer = proxy.ask(format!(
        "GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\n\r\n"
    ));
    assert_eq!(answer.status(), 504);
    let status = answer.field("Proxy-Status").unwrap_or_default();
    assert!(status.contains("connection_timeout"), "{status}");
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(listener);
}

#[test]
fn a_tunnel_to_an_origin_that_does_not_accept_is_504() {
    let (listener, address) = black_hole();
    let proxy = Proxy::command().config("[timeouts]\nconnect = 0.5").start();
    let answer = proxy.ask(format!(
        "CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n"
    ));
    assert_eq!(answer.status(), 504);
    drop(listener);
}

/// A listener whose queue is full: a connection to it is neither accepted nor refused.
fn black_hole() -> ((Socket, Vec<TcpStream>), SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("sockets can be made");
    socket
        .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .expect("loopback has a free port");
    socket.listen(0).expect("a bound socket can listen");
    let address = socket
        .local_addr()
        .ok()
        .and_then(|address| address.as_socket())
        .expect("it has an address");
    let mut filling = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        filling.push(stream);
    }
    ((socket, filling), address)
}

#[test]
fn an_origin_that_never_answers_is_504() {
    let origin = Origin::silent();
    let proxy = Proxy::command()
        .config("[timeouts]\nupstream_response = 0.5")
        .start();
    let answer = proxy.get(&origin, "/");
    assert_eq!(answer.status(), 504);
    let status = answer.field("Proxy-Status").unwrap_or_default();
    assert!(status.contains("http_response_timeout"), "{status}");
    origin.wait_for_end();
}

#[test]
fn an_origin_that_answers_after_the_idle_limit_of_clients_is_waited_for() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.pause(1500);
        peer.send(OK);
    });
    let proxy = Proxy::command().args(["--timeout", "0.5"]).start();
    assert_eq!(proxy.get(&origin, "/").status(), 200);
}

#[test]
fn an_origin_that_stalls_within_a_body_is_cut_off_visibly() {
    for head in [
        "Content-Length: 100\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n",
        "\r\n",
    ] {
        let origin = Origin::serve(move |peer| {
            peer.request();
            peer.send(format!("HTTP/1.1 200 OK\r\n{head}hello"));
            peer.park();
        });
        let proxy = Proxy::command()
            .config("[timeouts]\nupstream_idle = 0.5")
            .start();
        let mut client = proxy.client();
        client.send(get(&origin, "/"));
        let answer = client.response();
        let end = client.read_to_end();
        assert!(
            !answer.complete || end == End::Reset,
            "{head:?} looks whole"
        );
    }
}

#[test]
fn an_origin_that_is_slow_but_steady_is_not_cut_off() {
    let origin = Origin::serve(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        for _ in 0..10 {
            peer.pause(200);
            peer.send("x");
        }
    });
    let proxy = Proxy::command()
        .config("[timeouts]\nupstream_idle = 1\nidle = 1\nupstream_response = 1")
        .start();
    assert_eq!(proxy.get(&origin, "/").text(), "x".repeat(10));
}

#[test]
fn an_upload_that_the_origin_reads_slowly_is_not_cut_off() {
    // More than the kernel buffers while the origin is slow.
    const LEN: usize = 40 << 20;
    let origin = Origin::serve(|peer| {
        peer.head();
        for _ in 0..15 {
            peer.discard(1 << 20);
            peer.pause(300);
        }
        peer.discard(24 << 20);
        peer.wait_for(b"the end");
        peer.send(response("200 OK", "read"));
        peer.park();
    });
    let proxy = Proxy::command()
        .config("[timeouts]\nupstream_response = 3")
        .start();
    let mut client = proxy.client();
    client.send(request(
        "POST",
        &origin,
        "/",
        &format!("Content-Length: {LEN}\r\n"),
    ));
    client.send(vec![b'u'; LEN - 7]);
    client.send("the end");
    assert_eq!(client.response_to("POST").text(), "read");
}

#[test]
fn a_client_that_uploads_slowly_is_not_cut_off() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .config("[timeouts]\nupstream_response = 0.5\nupstream_idle = 0.5\nstall = 2")
        .start();
    let mut client = proxy.client();
    client.send(request("POST", &origin, "/", "Content-Length: 4\r\n"));
    for _ in 0..4 {
        assert!(client.stays_quiet(Duration::from_millis(800)));
        client.send("u");
    }
    assert_eq!(client.response_to("POST").status(), 200);
    assert_eq!(origin.only_request().text(), "uuuu");
}

#[test]
fn an_upload_does_not_shorten_the_time_of_an_answers_body() {
    let origin = Origin::serve(|peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        peer.wait_for(b"\r\n\r\nu");
        peer.pause(2000);
        peer.send("later");
        peer.park();
    });
    let proxy = Proxy::command()
        .config("[timeouts]\nupstream_response = 1\nupstream_idle = 10")
        .start();
    let mut client = proxy.client();
    client.send(request("POST", &origin, "/", "Content-Length: 100\r\n"));
    client.read_until(b"first");
    client.send("u");
    let answer = client.response_to("POST");
    assert!(answer.is_sound(), "{:?}", answer.text());
    assert_eq!(answer.text(), "firstlater");
}

#[test]
fn a_tunnel_in_which_nothing_moves_is_closed() {
    let origin = Origin::silent();
    let proxy = Proxy::command()
        .config("[timeouts]\ntunnel_idle = 0.5")
        .start();
    let mut client = proxy.tunnel(&origin);
    client.send("hello");
    client.read_to_end();
    origin.wait_for_end();
}

#[test]
fn a_tunnel_outlives_the_idle_limit_of_clients() {
    let origin = Origin::echoing();
    let proxy = Proxy::command().args(["--timeout", "0.5"]).start();
    let mut client = proxy.tunnel(&origin);
    thread::sleep(Duration::from_millis(1500));
    client.send("still here");
    assert_eq!(client.read_exact(10), b"still here");
}

#[test]
fn an_idle_upstream_connection_is_closed() {
    let origin = Origin::answering(OK);
    let proxy = Proxy::command()
        .config("[limits]\nupstream_idle_timeout = 0.5")
        .start();
    assert_eq!(proxy.get(&origin, "/").status(), 200);
    origin.wait_for_end();
}
